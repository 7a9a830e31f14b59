"""What another tool compressed is exported, and compressed further: a cut, then int8, by the same flow as any source."""

import json
import warnings
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from headway.bundle import Bundle
from headway.exporter.export import export
from headway.exporter.recipe.recipe import make_recipe

from tests.checkpoints.block_pruned import make_compiled
from tests.checkpoints.gated_factors import make_gated
from tests.checkpoints.gated_heads import make_gates
from tests.checkpoints.pruned_heads import make_pruned
from tests.checkpoints.pruned_masks import make_masked, two_of_four
from tests.checkpoints.tiny_bert import make_tiny_bert
from tests.support import models


def _distilled(directory: Path) -> Any:
    return models.make_model(directory, "distilbert", "text-classification")


ROWS: dict[str, Callable[[Path], Any]] = {
    "heads": lambda folder: make_pruned(folder, {0: [1], 1: [0, 2, 3]}, {0: range(20)}, task="text-classification"),
    "gates": lambda folder: make_gates(folder, task="text-classification"),
    "blocks": lambda folder: make_compiled(folder, "text-classification"),
    "factors": lambda folder: make_gated(folder, [9, 18, 0]),
    "distilbert": _distilled,
    "tinybert": make_tiny_bert,
}


GROUPS = [
    pytest.param({"num_hidden_layers": 2, "num_hidden_groups": 1, "inner_group_num": 2}, id="one-group"),
    pytest.param(
        {"num_hidden_layers": 4, "num_hidden_groups": 2, "inner_group_num": 2}, id="two-groups", marks=pytest.mark.slow
    ),
]
"""Groups of two layers, each run twice: twice as many layers run as have weights."""


@pytest.mark.parametrize("groups", GROUPS)
@pytest.mark.parametrize(
    "target",
    [
        "ort",
        *(pytest.param(t, marks=pytest.mark.slow) for t in ("web", "ort-mobile", "executorch", "tensorrt")),
    ],
)
def test_layers_that_groups_share_are_stored_once(target: str, groups: dict[str, int], tmp_path: Path) -> None:
    source = models.make_model(tmp_path / "model", "albert", hidden_size=128, intermediate_size=512, **groups)
    weights = (source / "model.safetensors").stat().st_size
    recipe = make_recipe(
        "test", source=str(source), target=target, engine={"plan": True} if target == "tensorrt" else {}
    )
    made = export(recipe, tmp_path / "bundle")
    assert len(made.manifest.anatomy["blocks"]) == 2 * groups["num_hidden_layers"]
    # Written out for each layer that runs, weights alone would take almost twice as much.
    assert made.artifact_bytes < 1.3 * weights


@pytest.mark.slow
@pytest.mark.parametrize("row", ROWS)
def test_a_further_cut_and_int8(row: str, tmp_path: Path) -> None:
    ROWS[row](tmp_path / "model")
    text = models.write_labeled(tmp_path / "text.jsonl", 120)
    if row == "tinybert":  # an encoder alone: its own answers count
        text = tmp_path / "text.txt"
        text.write_text(
            "\n".join(json.loads(line)["text"] for line in (tmp_path / "text.jsonl").read_text().splitlines())
        )
    recipe = make_recipe(
        "test",
        source=str(tmp_path / "model"),
        data=text,
        passes=[{"kind": "fit", "flops": 0.8}, {"kind": "quantize"}],
        max_drop=100,
    )
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        made = export(recipe, tmp_path / "bundle")
    assert made.parity.ok and made.manifest.compression is not None
    stages = made.manifest.compression["stages"]
    assert [s["name"] for s in stages] == ["source", "fit", "quantize"]
    assert stages[1]["nbytes"] < stages[0]["nbytes"] and stages[2]["nbytes"] < stages[1]["nbytes"]
    assert next(iter(Bundle.open(tmp_path / "bundle")(["the model", "a text"]).values())).shape[0] == 2


@pytest.mark.slow
def test_two_of_four_reaches_the_plan_of_an_engine(tmp_path: Path) -> None:
    """Zeros that a checkpoint's masks leave are recognized, kept, and the engine is told of them; other zeros are not."""
    for name, prune_layer in (("pruned", two_of_four), ("unstructured", None)):
        make_masked(tmp_path / name, 0.5, prune_layer=prune_layer)
        recipe = make_recipe("test", source=str(tmp_path / name), target="tensorrt", engine={"plan": True})
        with warnings.catch_warnings(record=True) as caught:
            warnings.simplefilter("always")
            made = export(recipe, tmp_path / f"{name}-out")
        said = " ".join(str(one.message) for one in caught)
        plan, command = ((made.path / file).read_text(encoding="utf-8") for file in ("plan.json", "build.sh"))
        is_sparse = name == "pruned"
        assert ("at most two of four along the inputs" in said) is is_sparse
        assert json.loads(plan)["settings"]["sparse"] is is_sparse and ("--sparsity=enable" in command) is is_sparse
