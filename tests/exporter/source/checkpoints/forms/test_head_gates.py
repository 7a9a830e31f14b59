"""Gates are folded into what reads heads and neurons; the closed ones are cut; a bundle still reads spans."""

import warnings
from pathlib import Path

import pytest
import torch

from headway.bundle import Bundle
from headway.exporter.export import export
from headway.exporter.graph.anatomy import read_anatomy
from headway.exporter.recipe.recipe import Recipe

from tests.checkpoints.gated_heads import make_gates
from tests.support import checkpoints, twins

SAID = (
    "gates folded into 4 weights: 2 of 8 heads closed, 48 of 128 neurons closed",
    "wholly zero, and cut away: block 0: heads 4 → 3, neurons 64 → 40; block 1: heads 4 → 3, neurons 64 → 40",
)


@pytest.mark.parametrize("concrete", [True, False])
def test_gates_are_folded_and_what_is_closed_is_cut(concrete: bool, tmp_path: Path) -> None:
    model = make_gates(tmp_path, concrete=concrete)
    source, graph = checkpoints.same_answers(tmp_path, checkpoints.forward(model))
    assert source.sentences[:2] == SAID
    assert [f.width for b in read_anatomy(graph).blocks for f in b.feed_forwards] == [40, 40]


def test_a_bundle_reads_spans_and_says_its_form(tmp_path: Path) -> None:
    make_gates(tmp_path / "model")
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        made = export(Recipe(source=str(tmp_path / "model")), tmp_path / "bundle")
    assert made.manifest.source["form"][:2] == list(SAID)
    (answer,) = Bundle.open(tmp_path / "bundle").answers([("the model", "a small text of words and time")])
    assert answer["answer"] in "a small text of words and time" and answer["score"] != 0


@pytest.mark.parametrize("place", ["attention.self.gate", "intermediate.gate", "other.gate"])
def test_gates_of_nothing_are_refused(place: str, tmp_path: Path) -> None:
    make_gates(tmp_path)
    name = f"bert.encoder.layer.1.{place}"
    checkpoints.save(tmp_path, checkpoints.tensors(tmp_path) | {name: torch.ones(5)})
    assert f"{name} has 5 gates" in checkpoints.refusal(tmp_path)


SOUND = twins.Sound(
    make_gates,
    "bert.encoder.layer.0.attention.self.gate",
    {"bert.encoder.layer.0.attention.self.qz_loga": torch.ones(4)},
    ("bert.encoder.layer.0.attention.output.dense has no gates",),
)
"""What `test_hostile_twins.py` makes twins of."""
