"""Weight files are found under the usual names first, and under one of their own where it is the only one."""

from pathlib import Path

import pytest
import torch
from safetensors.torch import save_file

from headway.errors import SourceError
from headway.exporter.source.weight_files import has_weights, usual_names, weight_files


def _safetensors(path: Path) -> Path:
    save_file({"a": torch.ones(1)}, path)
    return path


def test_usual_names_come_first(tmp_path: Path) -> None:
    other = _safetensors(tmp_path / "other.safetensors")
    assert weight_files(tmp_path, False) == (other,)
    assert not usual_names((other,))
    usual = _safetensors(tmp_path / "model.safetensors")
    assert weight_files(tmp_path, False) == (usual,)
    assert usual_names((usual,))


def test_several_under_names_of_their_own_are_refused(tmp_path: Path) -> None:
    for name in ("best", "last"):
        _safetensors(tmp_path / f"{name}.safetensors")
    with pytest.raises(SourceError, match=r"several weight files, best\.safetensors, last\.safetensors"):
        weight_files(tmp_path, False)


def test_pickles_have_to_be_allowed_and_trainers_files_do_not_count(tmp_path: Path) -> None:
    for name in (
        "student.pt",
        "optimizer.pt",
        "scheduler.pt",
        "rng_state.pth",
        "training_args.bin",
        "adapter_model.bin",
    ):
        torch.save({"a": torch.ones(1)}, tmp_path / name)
    with pytest.raises(SourceError, match=r"student\.pt: a pickle"):
        weight_files(tmp_path, False)
    assert weight_files(tmp_path, True) == (tmp_path / "student.pt",)
    (tmp_path / "student.pt").unlink()
    assert not has_weights(tmp_path)
    with pytest.raises(SourceError, match="no weights"):
        weight_files(tmp_path, True)


@pytest.mark.parametrize("name", ["a.gguf", "b.onnx", "onnx/model_q4.onnx"])
def test_without_weights_the_file_that_can_be_read_is_named(name: str, tmp_path: Path) -> None:
    (tmp_path / name).parent.mkdir(exist_ok=True)
    (tmp_path / name).touch()
    with pytest.raises(SourceError, match=f"no weights.*to read {name}, give its path"):
        weight_files(tmp_path, False)
