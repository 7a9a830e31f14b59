"""A recipe that is run again gives the same bytes."""

import json
from pathlib import Path
from typing import Any

import pytest

from headway.exporter.api import resolve_recipe
from headway.exporter.export import Exported, export
from headway.exporter.recipe.recipe import make_recipe

from tests.support.trimmed import corpus_lines


def test_the_same_recipe_gives_the_same_bytes(bert_bundle: Exported, tmp_path: Path) -> None:
    again = export(resolve_recipe(None, bert_bundle.path / "recipe.yaml"), tmp_path / "again")
    timed = ("headway.json", "README.md")  # these would hold timings, had the bundle been measured
    first, second = (
        {p.relative_to(root): p.read_bytes() for p in root.rglob("*") if p.is_file() and p.name not in timed}
        for root in (bert_bundle.path, again.path)
    )
    assert first == second
    first_manifest, second_manifest = (
        json.loads((root / "headway.json").read_text()) for root in (bert_bundle.path, again.path)
    )
    assert first_manifest["files"]["model.onnx"] == second_manifest["files"]["model.onnx"]


@pytest.mark.parametrize(
    "passes",
    [
        pytest.param([{"kind": "fit", "flops": 0.6}, {"kind": "repair"}], marks=pytest.mark.slow),
        pytest.param([{"kind": "trim_vocabulary"}, {"kind": "fit", "flops": 0.7, "rounds": 1}], marks=pytest.mark.slow),
        pytest.param(
            [
                {"kind": "remove_heads", "keep": {0: 2}},
                {"kind": "remove_neurons", "keep": {1: 128}},
                {"kind": "quantize"},
            ],
            marks=pytest.mark.slow,
        ),
        [{"kind": "quantize", "search": True}],
        pytest.param(
            [{"kind": "remove_blocks", "least_important": 1}, {"kind": "repair"}, {"kind": "float16"}],
            marks=pytest.mark.slow,
        ),
    ],
    ids=lambda passes: "+".join(p["kind"] for p in passes),
)
def test_the_recipe_in_a_compressed_bundle_gives_the_same_bytes(
    passes: list[dict[str, Any]], classifier: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """What a search decided stands in the recipe of the bundle: run again, nothing is searched."""
    (tmp_path / "text.txt").write_text("\n".join(corpus_lines(100)))
    recipe = make_recipe("test", source=str(classifier), data=tmp_path / "text.txt", passes=passes, max_drop=100)
    first = export(recipe, tmp_path / "first")
    for search in ("compress.fit_steps.fit", "compress.weight_steps.effects", "compress.structure_steps.removals"):
        if search != "compress.structure_steps.removals" or "least_important" not in passes[0]:
            monkeypatch.setattr(f"headway.exporter.{search}", lambda *_, **__: pytest.fail("searched again"))
    again = export(resolve_recipe(classifier, first.path / "recipe.yaml", data=recipe.data), tmp_path / "again")
    names = {n for n in first.manifest.files if n.startswith("model.onnx")} | {"tokenizer.json", "recipe.yaml"}
    for name in names:
        assert (again.path / name).read_bytes() == (first.path / name).read_bytes(), name
