"""A recipe that is run again gives the same bytes."""

import json
from pathlib import Path

from headway.exporter.export import Exported, export
from headway.exporter.recipe.recipe import read_recipe


def test_the_same_recipe_gives_the_same_bytes(bert_bundle: Exported, tmp_path: Path) -> None:
    again = export(read_recipe(bert_bundle.path / "recipe.yaml"), tmp_path / "again")
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
