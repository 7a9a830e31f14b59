"""A recipe fits the task of its source, or is refused."""

import pytest

from headway.errors import UsageError
from headway.exporter.recipe.recipe import Recipe
from headway.exporter.recipe.task_fit import fitted_to_task


@pytest.mark.parametrize(("target", "device"), [("web", "browser"), ("litert", "phone")])
@pytest.mark.parametrize("task", ["sparse-embedding", "multi-vector"])
def test_code_that_reads_no_answers_of_a_task(target: str, device: str, task: str) -> None:
    recipe = Recipe(source="m", target=target)
    with pytest.raises(UsageError, match=f"the code for a {device} reads no answers of {task}"):
        fitted_to_task(recipe, task)
    assert fitted_to_task(recipe, "sentence-embedding") is recipe


def test_padding_that_may_count_is_not_left_out() -> None:
    auto, custom = (Recipe(source="m", kernels=kernels) for kernels in ("auto", "custom"))
    assert fitted_to_task(auto, "multi-vector").kernels == "stock"
    assert fitted_to_task(auto, "sparse-embedding").kernels == "auto"
    with pytest.raises(UsageError, match="kernels: custom leaves padding out"):
        fitted_to_task(custom, "multi-vector")
    assert fitted_to_task(custom, "fill-mask") is custom
