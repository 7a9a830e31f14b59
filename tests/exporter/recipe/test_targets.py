"""The table of targets: every row holds, and its options are checked by it."""

import re

import pytest

from headway.errors import UsageError
from headway.exporter.recipe.recipe import Recipe, make_recipe
from headway.exporter.recipe.targets import TARGETS, targets_for, targets_with
from headway.runners.open import _OPENERS, ONNXRUNTIME


def test_every_row_names_a_runner_that_opens_bundles() -> None:
    assert {entry.runner for entry in TARGETS.values()} == {ONNXRUNTIME, *_OPENERS}


def test_an_unknown_target_is_refused_with_the_known_ones() -> None:
    listed = ", ".join(f"'{name}'" for name in list(TARGETS)[:-1]) + " or 'tensorrt-rtx'"
    with pytest.raises(UsageError, match=re.escape(f"test: target: 'abacus' is not known; give {listed}")):
        make_recipe("test", source="x", target="abacus")
    assert Recipe.model_json_schema()["properties"]["target"] == {
        "default": "ort",
        "description": "What the bundle is made for.",
        "enum": list(TARGETS),
        "title": "Target",
        "type": "string",
    }


def test_parts_of_the_recipe_that_one_target_has() -> None:
    assert targets_with("engine") == "tensorrt and tensorrt-rtx"
    with pytest.raises(UsageError, match="for targets tensorrt and tensorrt-rtx, not for ort"):
        make_recipe("test", source="x", engine={"plan": True})
    with pytest.raises(UsageError, match="graph_optimization is for target ort-mobile, not for web"):
        make_recipe("test", source="x", target="web", graph_optimization="device")
    with pytest.raises(UsageError, match="target ort-cuda: speed cannot be measured on a CPU"):
        make_recipe("test", source="x", target="ort-cuda", passes=[{"kind": "fit", "speedup": 2.0}])


def test_platforms_of_apps() -> None:
    assert targets_for("android") == ["ort-mobile", "executorch", "litert"]
    assert targets_for("ios") == ["ort-mobile", "executorch", "coreml"]
    assert targets_for("web") == ["ort-mobile", "web"]
