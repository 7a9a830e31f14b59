"""Tensors are listed from headers and read one by one; pickles give tensors alone."""

import json
import struct
from pathlib import Path

import pytest
import torch
from safetensors.torch import save_file

from headway.errors import SourceError
from headway.exporter.source.checkpoints.state import given, read_state


def test_safetensors_are_listed_without_being_read(tmp_path: Path) -> None:
    tensors = {
        "a": torch.arange(6.0).reshape(2, 3),
        "b": torch.ones(4, dtype=torch.bfloat16),
        "c": torch.zeros(2).char(),
    }
    save_file(tensors, tmp_path / "one.safetensors", metadata={"format": "pt"})
    state, _ = read_state((tmp_path / "one.safetensors",))
    assert {n: (t.shape, t.dtype, t.floating) for n, t in state.items()} == {
        "a": ((2, 3), "float32", True),
        "b": ((4,), "bfloat16", True),
        "c": ((2,), "int8", False),
    }
    assert all(torch.equal(state[n].read(), tensors[n]) for n in tensors)


def test_notes_may_be_null(tmp_path: Path) -> None:
    header = json.dumps({"__metadata__": None, "a": {"dtype": "F32", "shape": [1], "data_offsets": [0, 4]}}).encode()
    (tmp_path / "one.safetensors").write_bytes(struct.pack("<Q", len(header)) + header + struct.pack("<f", 1.5))
    state, _ = read_state((tmp_path / "one.safetensors",))
    assert state["a"].read().tolist() == [1.5]


def test_state_dicts_are_taken_out_of_what_trainers_wrap_around_them(tmp_path: Path) -> None:
    torch.save({"epoch": 3, "state_dict": {"a": torch.ones(2)}}, tmp_path / "one.bin")
    state, sentences = read_state((tmp_path / "one.bin",))
    assert list(state) == ["a"]
    assert sentences == ("one.bin also holds epoch, which no export needs",)


def test_a_name_in_two_shards_is_refused(tmp_path: Path) -> None:
    for name in ("one", "two"):
        save_file({"a": torch.ones(2)}, tmp_path / f"{name}.safetensors")
    with pytest.raises(SourceError, match=r"two\.safetensors: the tensor a is in another shard"):
        read_state((tmp_path / "one.safetensors", tmp_path / "two.safetensors"))


class Evil:
    """Runs code when it is loaded."""

    def __reduce__(self) -> tuple:
        return print, ("ran",)


def test_a_pickle_that_runs_code_is_refused_and_runs_none(tmp_path: Path, capsys: pytest.CaptureFixture) -> None:
    torch.save({"a": Evil()}, tmp_path / "one.bin")
    with pytest.raises(SourceError, match="without running code"):
        read_state((tmp_path / "one.bin",))
    assert capsys.readouterr().out == ""


def test_a_pickle_of_something_else_is_refused(tmp_path: Path) -> None:
    torch.save([torch.ones(2)], tmp_path / "one.bin")
    with pytest.raises(SourceError, match="list, no state dict"):
        read_state((tmp_path / "one.bin",))


def test_computed_tensors_are_made_when_they_are_read() -> None:
    calls: list[int] = []
    half = given(torch.ones(2, 2, dtype=torch.float16)).computed(lambda t: calls.append(1) or t.float() * 2)
    assert (half.dtype, half.shape, calls) == ("float32", (2, 2), [])
    assert half.read().sum() == 8
    assert calls == [1]
