"""Tokenizers that are missing, too large for their model, or leave nothing of a text."""

import json
import shutil
from pathlib import Path

import pytest

from headway.errors import HeadwayWarning, SourceError
from headway.exporter.source.source import open_source
from headway.exporter.source.tokenizer import source_encoder, source_tokenizer

from tests.support import models
from tests.support.refusals import refused


def test_a_tokenizer_of_a_larger_model(tmp_path: Path) -> None:
    source = models.make_model(tmp_path / "source", vocab_size=60)
    error = refused(source, tmp_path / "out")
    assert error.exit_code == 3
    assert "vocab_size = 60" in str(error)


def test_a_limit_that_leaves_nothing_of_a_text(copy: Path, tmp_path: Path) -> None:
    path = copy / "tokenizer_config.json"
    path.write_text(json.dumps(json.loads(path.read_text()) | {"model_max_length": 2}))
    assert "model_max_length" in str(refused(copy, tmp_path / "out"))


def test_missing_tokenizer(copy: Path, tmp_path: Path) -> None:
    (copy / "tokenizer.json").unlink()
    error = refused(copy, tmp_path / "out")
    assert error.exit_code == 3
    assert "tokenizer" in str(error)


def test_an_added_token_without_an_embedding(tmp_path: Path) -> None:
    source = models.make_model(tmp_path / "source", vocab_size=120)
    import transformers

    tokenizer = transformers.AutoTokenizer.from_pretrained(source)
    known = len(tokenizer)
    tokenizer.add_tokens(["<image>"], special_tokens=True)
    tokenizer.save_pretrained(source)
    models.make_model(tmp_path / "small", vocab_size=known)
    tokenizer.save_pretrained(tmp_path / "small")
    message = str(refused(tmp_path / "small", tmp_path / "out"))
    assert (
        "the added token '<image>' has the id" in message
        and "no embedding" in message
        and f"vocab_size = {known}" in message
    )


def test_a_tokenizer_is_loaded_as_sentence_transformers_loads_it(tmp_path: Path) -> None:
    source = models.make_sentence_model(tmp_path / "source")
    path = source / "tokenizer.json"
    content = json.loads(path.read_text())
    content["normalizer"]["lowercase"] = False
    path.write_text(json.dumps(content))
    (source / "sentence_bert_config.json").write_text(
        '{"do_lower_case": true, "tokenizer_args": {"model_max_length": 20}}'
    )
    opened = open_source(str(source))
    tokenizer = source_tokenizer(opened)
    assert (
        tokenizer.tokenize("RAIN") == tokenizer.tokenize("rain") and tokenizer.model_max_length == 20 == opened.longest
    )
    alone = source_tokenizer(open_source(str(source), task="feature-extraction"))
    assert alone.tokenize("RAIN") != alone.tokenize("rain")


def test_a_graph_with_a_tokenizer_and_nothing_else_beside_it(bert: Path, tmp_path: Path) -> None:
    """A tokenizer.json names no roles: the token that its vocabulary has for it pads."""
    (tmp_path / "model.onnx").write_bytes(b"")
    with pytest.raises(SourceError, match=r"model\.onnx: no tokenizer \(expected one of tokenizer\.json"):
        source_tokenizer(open_source(str(tmp_path / "model.onnx")))
    shutil.copy(bert / "tokenizer.json", tmp_path)
    source = open_source(str(tmp_path / "model.onnx"))
    tokenizer = source_tokenizer(source)
    assert source.config == {} and source.task == "feature-extraction"
    assert tokenizer.pad_token == "[PAD]" and tokenizer.pad_token_id == 0


def test_a_tokenizer_that_normalizes_nothing_is_lowered_where_the_library_does(tmp_path: Path) -> None:
    source = models.make_sentence_model(tmp_path)
    path = source / "tokenizer.json"
    path.write_text(json.dumps(json.loads(path.read_text()) | {"normalizer": None}))
    settings = source / "tokenizer_config.json"
    # BertTokenizer would put its own normalizer in.
    content = json.loads(settings.read_text()) | {"tokenizer_class": "PreTrainedTokenizerFast"}
    settings.write_text(json.dumps(content))
    assert source_tokenizer(open_source(str(source))).backend_tokenizer.normalizer is None
    (source / "sentence_bert_config.json").write_text('{"do_lower_case": true}')
    tokenizer = source_tokenizer(open_source(str(source)))
    assert tokenizer.tokenize("RAIN") == tokenizer.tokenize("rain")


def test_a_source_of_longer_texts_is_told(tmp_path: Path) -> None:
    source = models.make_model(tmp_path / "source", max_position_embeddings=9000)
    path = source / "tokenizer_config.json"
    path.write_text(json.dumps(json.loads(path.read_text()) | {"model_max_length": 9000}))
    with pytest.warns(HeadwayWarning, match="takes texts of 9,000 tokens, and the bundle reads the first 8,192"):
        (tmp_path / "out").mkdir()
        assert source_encoder(open_source(str(source)), tmp_path / "out").info.max_length == 8192
