"""State dicts are found in what trainers save around them; what else a file holds is said."""

import os
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


class Runs:
    """What pickle rebuilds by a call."""

    def __reduce__(self) -> tuple[object, tuple[()]]:
        return os.getcwd, ()


def test_what_would_run_is_named(tmp_path: Path) -> None:
    torch.save({"a": Runs()}, tmp_path / "one.pt")
    with pytest.raises(SourceError, match=r"unsupported GLOBAL posix\.getcwd") as caught:
        read_pickle(tmp_path / "one.pt")
    assert "weights_only=False" not in str(caught.value)


def test_of_what_torch_says_the_first_line_is_the_reason(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Links to its documentation follow."""

    def fail(*_: object, **__: object) -> None:
        raise RuntimeError("the file is cut off\n\nCheck the documentation of torch.load")

    (tmp_path / "one.pt").write_bytes(b"no pickle")
    monkeypatch.setattr(torch, "load", fail)
    with pytest.raises(
        SourceError,
        match=r"without running code \(RuntimeError: the file is cut off\): save model.state_dict\(\) alone",
    ):
        read_pickle(tmp_path / "one.pt")
