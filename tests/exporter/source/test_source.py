"""Bad sources, each with its message and its exit code."""

import json
import struct
from pathlib import Path

import pytest
import torch

from headway.errors import SourceError, UsageError
from headway.exporter.capture.capture import capture
from headway.exporter.export import Exported, export
from headway.exporter.recipe.recipe import Recipe
from headway.exporter.source.source import open_source

from tests.support import models
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


def test_a_route_of_a_model_without_routes_is_refused(copy: Path) -> None:
    with pytest.raises(SourceError, match=r"has no modules\.json, so it has no route 'query': leave #query out"):
        open_source(f"{copy}#query")


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


def write_safetensors(path: Path, header: str, size: int) -> None:
    path.write_bytes(struct.pack("<Q", len(header)) + header.encode() + bytes(size))


def tensor(begin: int, end: int, size: int | None = None) -> str:
    return f'{{"dtype":"F32","shape":[{size or (end - begin) // 4}],"data_offsets":[{begin},{end}]}}'


@pytest.mark.parametrize(
    ("header", "size", "says"),
    [
        (f'{{"a":{tensor(0, 8)},"b":{tensor(8, 16)}}}', 20, "truncated or damaged: its 136 bytes"),
        (f'{{"a":{tensor(0, 8)},"b":{tensor(4, 16)}}}', 16, "invalid offset for tensor `b`"),
        (f'{{"a":{tensor(0, 8)},"b":{tensor(12, 16)}}}', 16, "invalid offset for tensor `b`"),
        (f'{{"a":{tensor(0, 8, 3)}}}', 8, "invalid shape"),
        (f'{{"a":{tensor(0, 8)},"a":{tensor(0, 8)}}}', 8, "lists the tensor 'a' twice"),
        ('{"a":', 0, "damaged in its header"),
        ("[]", 0, "damaged in its header"),
    ],
)
def test_damaged_safetensors_are_refused(copy: Path, header: str, size: int, says: str) -> None:
    path = copy / "model.safetensors"
    write_safetensors(path, header, size)
    with pytest.raises(SourceError) as caught:
        open_source(str(copy))
    assert says in str(caught.value) and str(path) in str(caught.value)


def test_whole_safetensors_are_read(copy: Path) -> None:
    write_safetensors(copy / "model.safetensors", f'{{"a":{tensor(0, 8)},"b":{tensor(8, 16)}}}', 16)
    assert open_source(str(copy)).weights == (copy / "model.safetensors",)


@pytest.mark.parametrize(
    ("changes", "positions"),
    [
        ({"max_position_embeddings": 66}, 66),
        ({"max_position_embeddings": -1}, 512),
        ({"model_type": "roberta", "max_position_embeddings": 514, "pad_token_id": 1}, 512),
        ({"model_type": "roberta", "max_position_embeddings": 514, "pad_token_id": None}, 512),
        ({"model_type": "mpnet", "max_position_embeddings": 514, "pad_token_id": 7}, 512),
    ],
)
def test_positions_are_counted_as_the_family_counts_them(copy: Path, changes: dict, positions: int) -> None:
    edit_config(copy, **changes)
    assert open_source(str(copy)).positions == positions


def test_a_fingerprint_is_that_of_the_content(bert: Path, copy: Path) -> None:
    assert open_source(str(copy)).fingerprint == open_source(str(bert)).fingerprint
    edit_config(copy, layer_norm_eps=0.5)
    assert open_source(str(copy)).fingerprint != open_source(str(bert)).fingerprint


def test_the_limit_is_that_of_the_library_whose_answers_count(tmp_path: Path) -> None:
    """A graph of a sentence-transformers directory answers as that library does, and the encoder alone as transformers."""
    source = models.make_sentence_model(tmp_path)
    (source / "sentence_bert_config.json").write_text('{"max_seq_length": 20}')
    path = source / "tokenizer_config.json"
    path.write_text(json.dumps(json.loads(path.read_text()) | {"model_max_length": 30}))
    (source / "model.onnx").write_bytes(b"")
    assert open_source(str(source)).longest == 20
    assert open_source(str(source), task="feature-extraction").longest == 30
    assert open_source(str(source / "model.onnx")).longest == 20


def test_a_bundle_reads_no_more_than_its_answers_are_compared_on(copy: Path) -> None:
    edit_config(copy, max_position_embeddings=131_072)
    path = copy / "tokenizer_config.json"
    path.write_text(json.dumps(json.loads(path.read_text()) | {"model_max_length": 32_768}))
    assert (open_source(str(copy)).allowed, open_source(str(copy)).longest) == (32_768, 8_192)
