"""A quantized checkpoint on every kind of target, and under passes: where its integers are, and what is said of it."""

import random
import warnings
from pathlib import Path

import pytest
import torch

from headway.exporter.export import export
from headway.exporter.recipe.recipe import Recipe

from tests.support import integer_checkpoints as integers
from tests.support.integer_checkpoints import Whole
from tests.support.models import WORDS

SETTINGS = {
    "quant_method": "compressed-tensors",
    "format": "int-quantized",
    "config_groups": {"group_0": {"weights": {"num_bits": 4, "group_size": 16}}},
}


def plain(stem: str, whole: Whole) -> dict[str, torch.Tensor]:
    return {
        f"{stem}.weight": (whole.codes - 8).to(torch.int8),
        f"{stem}.weight_scale": whole.scale,
        f"{stem}.weight_zero_point": (whole.zero - 8).to(torch.int8),
    }


@pytest.fixture(scope="module", params=[True, False], ids=["symmetric", "zero points"])
def made(request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory) -> tuple[bool, Path]:
    directory = tmp_path_factory.mktemp("quantized")
    integers.make_quantized(directory, plain, SETTINGS, symmetric=request.param)
    return request.param, directory


@pytest.mark.parametrize(
    "target",
    [
        "ort-mobile",
        "ort-cuda",
        pytest.param("web", marks=pytest.mark.slow),
        pytest.param("executorch", marks=pytest.mark.slow),
    ],
)
def test_each_target_stores_the_integers_or_their_exact_floats(
    target: str, made: tuple[bool, Path], tmp_path: Path
) -> None:
    symmetric, directory = made
    if target == "executorch":
        pytest.importorskip("executorch")
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        done = export(Recipe(source=str(directory), target=target), tmp_path / "b")
    assert done.parity.dtype == "float32" and done.parity.outputs[0].max_abs < 1e-5
    said = " ".join(done.manifest.source["form"])
    if target == "executorch":
        assert "0 of 6 quantized weights" in said and "the target stores no integers beside float activations" in said
    elif target == "ort-cuda" and not symmetric:
        assert "0 of 6 quantized weights" in said and "the target takes no zero points" in said
    else:
        assert "6 of 6 quantized weights (6 as int4 in blocks of 16)" in said


def test_passes_work_on_the_floats_and_say_that_they_round_again(made: tuple[bool, Path], tmp_path: Path) -> None:
    rng = random.Random(0)
    lines = [" ".join(rng.choices(WORDS, k=rng.randint(3, 12))) for _ in range(80)]
    (tmp_path / "text.txt").write_text("\n".join(lines))
    passes = [{"kind": "quantize", "weights": "int8", "activations": "none"}]
    recipe = Recipe(source=str(made[1]), data=[str(tmp_path / "text.txt")], passes=passes, max_drop=100)
    with pytest.warns(match="passes change the values of 6 quantized weights"):
        done = export(recipe, tmp_path / "b")
    assert "a quantize pass rounds those again" in " ".join(done.manifest.source["form"])
    assert done.manifest.lowering["weight_only"] == 6
