"""Every family and task: exported, verified, fused as expected, anatomy as configured."""

from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from headway.exporter.export import export
from headway.exporter.recipe.recipe import Recipe

from tests.support import models
from tests.support.supported import DISENTANGLED, PAIRS, QUICK_TASK

USUAL = ("feature-extraction", "text-classification")
"""Tasks whose models are traced whole, for other tests too. Models for others have the layers that are traced soonest."""


COPIES = ("camembert", "xlm-roberta", "electra", "distilbert")
"""Families whose layers compute what those of another do. All of their pairs are slow: tests of passes take them, too."""


def pairs() -> Iterator[Any]:
    for family, task in PAIRS:
        quick = family not in COPIES and task in ("feature-extraction", QUICK_TASK[family])
        yield pytest.param(family, task, marks=() if quick else pytest.mark.slow)


@pytest.mark.parametrize(("family", "task"), pairs())
def test_family_exports_with_parity(family: str, task: str, tmp_path: Path) -> None:
    layers = {} if task in USUAL else models.soonest(family)
    source = models.make_model(tmp_path / "source", family, task, **layers)
    done = export(Recipe(source=str(source)), tmp_path / "out")
    settings = models.FAMILIES[family][1] | layers
    assert max(o.max_abs for o in done.parity.outputs) < 1e-4
    blocks = done.manifest.anatomy["blocks"]
    assert len(blocks) == settings.get("num_hidden_layers", settings.get("n_layers"))
    assert {b["heads"] for b in blocks} == {4}
    assert {w for b in blocks for w in b["intermediate_size"]} == {64}
    assert all(b["disentangled"] == (family in DISENTANGLED) for b in blocks)
    fused = done.manifest.lowering
    assert fused["attention"] == (0 if family in DISENTANGLED else len(blocks))


def test_shared_layers_are_stored_once(tmp_path: Path) -> None:
    source = models.make_model(
        tmp_path / "albert",
        "albert",
        "fill-mask",
        hidden_size=256,
        intermediate_size=1024,
        num_hidden_layers=2,
        embedding_size=64,
    )
    done = export(Recipe(source=str(source)), tmp_path / "out")
    assert done.artifact_bytes <= 1.05 * done.source_bytes


def test_tied_output_head_is_stored_once(tmp_path: Path) -> None:
    source = models.make_model(
        tmp_path / "bert",
        "bert",
        "fill-mask",
        num_hidden_layers=1,
        hidden_size=256,
        intermediate_size=256,
        vocab_size=8000,
    )
    done = export(Recipe(source=str(source)), tmp_path / "out")
    assert done.artifact_bytes <= 1.05 * done.source_bytes
