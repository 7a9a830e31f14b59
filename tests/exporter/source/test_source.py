"""Bad sources, each with its message and its exit code."""

import struct
from pathlib import Path

import pytest
import torch

from headway.errors import SourceError, UsageError
from headway.exporter.capture.capture import capture
from headway.exporter.export import Exported, export
from headway.exporter.recipe.recipe import Recipe
from headway.exporter.source.source import open_source

from tests.support.refusals import edit_config, refused


def test_missing_file(tmp_path: Path) -> None:
    error = refused(tmp_path / "nowhere", tmp_path / "out")
    assert (error.exit_code, "nowhere" in str(error)) == (3, True)


def test_truncated_safetensors(copy: Path, tmp_path: Path) -> None:
    weights = copy / "model.safetensors"
    weights.write_bytes(weights.read_bytes()[:-1000])
    error = refused(copy, tmp_path / "out")
    assert error.exit_code == 3
    assert "truncated" in str(error)
    weights.write_bytes(struct.pack("<Q", 10**9) + b"{}")
    assert "header" in str(refused(copy, tmp_path / "out"))


def test_a_missing_shard_is_named(copy: Path, tmp_path: Path) -> None:
    (copy / "model.safetensors").unlink()
    (copy / "model.safetensors.index.json").write_text('{"weight_map": {"a": "model-00001-of-00002.safetensors"}}')
    assert "model-00001-of-00002" in str(refused(copy, tmp_path / "out"))


def test_a_bundle_is_no_source(bert_bundle: Exported, tmp_path: Path) -> None:
    error = refused(bert_bundle.path, tmp_path / "out")
    assert error.exit_code == 3
    assert "recipe.yaml" in str(error)


def test_wrong_task(copy: Path, tmp_path: Path) -> None:
    error = refused(copy, tmp_path / "out", task="text-classification")
    assert error.exit_code == 3
    assert "classifier" in str(error)
    with pytest.raises(UsageError, match="translation"):
        open_source(str(copy), task="translation")
    with pytest.raises(SourceError, match=r"modules\.json"):
        capture(open_source(str(copy), task="sentence-embedding"))


def test_pickles_only_when_allowed(bert: Path, copy: Path, tmp_path: Path) -> None:
    import transformers

    model = transformers.AutoModel.from_pretrained(bert)
    (copy / "model.safetensors").unlink()
    torch.save(model.state_dict(), copy / "pytorch_model.bin")
    error = refused(copy, tmp_path / "out")
    assert error.exit_code == 3
    assert "--allow-pickle" in str(error)
    assert export(Recipe(source=str(copy)), tmp_path / "out", allow_pickle=True).parity.ok


def test_a_decoder_is_refused(copy: Path, tmp_path: Path) -> None:
    edit_config(copy, architectures=["GPT2LMHeadModel"])
    assert "decoder" in str(refused(copy, tmp_path / "out"))
