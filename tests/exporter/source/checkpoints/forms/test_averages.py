"""Averages beside the weights are refused unless the config says which set counts."""

from pathlib import Path

import pytest
import torch

from headway.errors import SourceError
from headway.exporter.source.checkpoints.checkpoint import Checkpoint
from headway.exporter.source.checkpoints.read import undo
from headway.exporter.source.checkpoints.state import given, read_state

from tests.support import twins

NAMES = tuple(f"encoder.layer.{i}.output.dense.weight" for i in range(6))
WEIGHTS = {name: given(torch.zeros(1)) for name in NAMES}
AVERAGES = {f"ema_model.{name}": given(torch.ones(1)) for name in NAMES} | {"initted": given(torch.ones(1))}


def test_two_sets_are_refused_by_both_names(tmp_path: Path) -> None:
    with pytest.raises(
        SourceError, match=r"ema_model\.\* \(averages, 6 tensors\) and encoder\.layer\.0\.output.* \(6 tensors"
    ):
        undo(Checkpoint(tmp_path, {}, WEIGHTS | AVERAGES))


@pytest.mark.parametrize("averages", [True, False])
def test_the_config_says_which_set_counts(averages: bool, tmp_path: Path) -> None:
    found = undo(Checkpoint(tmp_path, {"use_ema": averages}, WEIGHTS | AVERAGES))
    assert found is not None
    assert {name: int(t.read()) for name, t in found.state.items()} == dict.fromkeys(NAMES, int(averages))
    assert "the other set is left out" in found.sentences[0]
    assert "use_ema" not in found.config


def test_averages_alone_are_taken(tmp_path: Path) -> None:
    found = undo(Checkpoint(tmp_path, {}, AVERAGES))
    assert found is not None
    assert list(found.state) == list(NAMES)
    assert found.sentences == ("averages of 6 tensors",)


def test_both_sets_of_a_pickle_are_seen(tmp_path: Path) -> None:
    plain = {name: torch.zeros(1) for name in NAMES}
    torch.save({"state_dict": plain, "state_dict_ema": plain, "epoch": 1}, tmp_path / "last.pt")
    state, sentences = read_state((tmp_path / "last.pt",))
    assert set(state) == {*NAMES, *(f"state_dict_ema.{name}" for name in NAMES)}
    assert sentences == ("last.pt also holds epoch, which no export needs",)


def test_averages_without_names_are_refused(tmp_path: Path) -> None:
    torch.save({"state_dict": {"a": torch.ones(1)}, "ema": {"shadow_params": [torch.ones(1)]}}, tmp_path / "last.pt")
    with pytest.raises(SourceError, match="shadow_params are averages of the weights without names"):
        read_state((tmp_path / "last.pt",))


SOUND = twins.Sound(twins.renamed("ema_model."), f"ema_model.{twins.NORM}", {twins.NORM: torch.ones(32)}, (twins.NORM,))
"""What `test_hostile_twins.py` makes twins of."""
