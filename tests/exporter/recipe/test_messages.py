"""What is wrong with a recipe is said by its key and in plain words, never in those of the library that checks."""

import pytest

from headway.errors import UsageError
from headway.exporter.recipe.recipe import make_recipe

FIT = "passes.0.fit"
HEADS = "passes.0.remove_heads"
WRONG = [
    ({"passes": [{"kind": "fit", "speedup": 0.5}]}, f"{FIT}.speedup: is 0.5; give more than 1"),
    ({"passes": [{"kind": "fit", "speedup": "x"}]}, f"{FIT}.speedup: a number is expected, not 'x'"),
    ({"passes": [{"kind": "remove_heads", "keep": 5}]}, f"{HEADS}.keep: a mapping of keys is expected, not 5"),
    (
        {"passes": [{"kind": "remove_heads", "keep": {0: "x"}}]},
        f"{HEADS}.keep.0: a list is expected, not 'x', or an integer is expected, not 'x'",
    ),
    ({"passes": [{}]}, "passes.0: names no kind: give `kind:`"),
    ({"kernels": "x"}, "kernels: 'x' is not known; give 'auto', 'stock' or 'custom'"),
    ({"column": "x"}, "recipe: column names a column of data, and no data is given"),
    ({"max_drop": -1, "task": 5}, "task: text is expected, not 5; max_drop: is -1; give at least 0"),
    ({"work": {"shapes": [[1]]}}, "work.shapes.0.1: is missing: give it"),
    ({"work": {"shapes": [[1, 2, 3]]}}, "work.shapes.0: has too many values; give at most 2"),
    ({"calibration": {"seed": 1 << 70}}, f"calibration.seed: is {1 << 70}; give at most 9.0072e+15"),
    (
        {"target": "tensorrt", "engine": {"plan": "perhaps", "timing_cache": 5}},
        "engine.plan: true or false is expected, not 'perhaps'; engine.timing_cache: the path of a file is expected, not 5",
    ),
]


@pytest.mark.parametrize(("values", "says"), WRONG)
def test_a_mistake_is_named_by_its_key_and_what_to_give(values: dict, says: str) -> None:
    with pytest.raises(UsageError) as refused:
        make_recipe("r.yaml", source="x", **values)
    assert str(refused.value) == f"r.yaml: {says}"


def test_an_unknown_kind_of_pass_is_answered_with_all_that_there_are() -> None:
    with pytest.raises(UsageError, match=r"there is no kind 'shrink'; give one of 'fit', .*, 'float16'"):
        make_recipe("r.yaml", source="x", passes=[{"kind": "shrink"}])
