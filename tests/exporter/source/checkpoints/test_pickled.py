"""State dicts are found in what trainers save around them; what else a file holds is said."""

from pathlib import Path

import pytest
import torch

from headway.errors import SourceError
from headway.exporter.source.checkpoints.pickled import read_pickle

STATE = {"a.weight": torch.ones(2)}


@pytest.mark.parametrize(
    ("saved", "left"),
    [
        (STATE, []),
        ({"module": STATE, "optimizer": {"state": {}}, "global_steps": 3}, ["optimizer", "global_steps"]),
        ({"model": {"state_dict": STATE, "version": 2}, "args": None}, ["args", "version"]),
        ({"ema": {"module": STATE, "decay": 0.9}}, []),
    ],
)
def test_state_dicts_are_found(saved: dict, left: list[str], tmp_path: Path) -> None:
    torch.save(saved, tmp_path / "one.pt")
    tensors, others = read_pickle(tmp_path / "one.pt")
    assert list(tensors) == ["a.weight"]
    assert others == left


def test_a_file_without_tensors_is_refused(tmp_path: Path) -> None:
    torch.save({"epoch": 1, "loss": 0.5}, tmp_path / "one.pt")
    with pytest.raises(SourceError, match="no state dict: epoch, loss instead of tensors"):
        read_pickle(tmp_path / "one.pt")
