"""A model in another runtime's format is laid out as a directory; its own tokenizer files come first."""

import json
from pathlib import Path
from typing import Any

import pytest
import transformers

from headway.errors import SourceError
from headway.exporter.source.formats.find_format import _pieces_of, find_format

from tests.checkpoints.ctranslate2_files import bert_variables, write_model
from tests.checkpoints.gguf_files import bert_metadata, bert_tensors, pieces_of, write_gguf


def test_a_directory_with_a_gguf_file(bert: Path, tmp_path: Path) -> None:
    model, tokenizer = transformers.AutoModel.from_pretrained(bert), transformers.AutoTokenizer.from_pretrained(bert)
    metadata = bert_metadata(model, pieces_of(tokenizer), **{"bert.pooling_type": 2})
    write_gguf(tmp_path / "model.gguf", metadata, bert_tensors(model))
    found = find_format(tmp_path)
    assert found is not None
    folder, stored = found
    names = {"config.json", "modules.json", "1_Pooling", "tokenizer.json", "tokenizer_config.json"}
    assert {p.name for p in folder.iterdir()} == names
    assert stored.file == tmp_path / "model.gguf"
    (tmp_path / "tokenizer.json").write_text('{"of": "its own"}')
    beside = find_format(tmp_path / "model.gguf")
    assert beside is not None
    assert (beside[0] / "tokenizer.json").read_text() == '{"of": "its own"}'
    write_gguf(tmp_path / "other.gguf", metadata, {})
    with pytest.raises(SourceError, match=r"several GGUF files, model\.gguf, other\.gguf"):
        find_format(tmp_path)


def test_one_of_several_parts_is_refused(tmp_path: Path) -> None:
    for name in ("a-00001-of-00002.gguf", "a-00002-of-00002.gguf"):
        write_gguf(tmp_path / name, {"split.count": 2}, {})
    for given in (tmp_path, tmp_path / "a-00002-of-00002.gguf"):
        with pytest.raises(SourceError, match="one of 2 parts of a model: join them"):
            find_format(given)


def test_the_file_of_ctranslate2_stands_for_its_directory(bert: Path, tmp_path: Path) -> None:
    model, tokenizer = transformers.AutoModel.from_pretrained(bert), transformers.AutoTokenizer.from_pretrained(bert)
    write_model(tmp_path / "model.bin", bert_variables(model))
    (tmp_path / "vocabulary.json").write_text(json.dumps(pieces_of(tokenizer)))
    found = find_format(tmp_path / "model.bin")
    assert found is not None and found[1].file == tmp_path / "model.bin"
    (tmp_path / "other.bin").write_bytes((tmp_path / "model.bin").read_bytes())
    assert find_format(tmp_path / "other.bin") is None


@pytest.mark.parametrize("kind", ["gguf", "ctranslate2"])
@pytest.mark.parametrize("name", ["tokenizer.json", "vocab.txt"])
def test_a_tokenizer_of_another_model_is_refused(kind: str, name: str, bert: Path, tmp_path: Path) -> None:
    model, tokenizer = transformers.AutoModel.from_pretrained(bert), transformers.AutoTokenizer.from_pretrained(bert)
    pieces = pieces_of(tokenizer)
    if kind == "gguf":
        write_gguf(tmp_path / "model.gguf", bert_metadata(model, pieces), bert_tensors(model))
    else:
        write_model(tmp_path / "model.bin", bert_variables(model))
        (tmp_path / "vocabulary.json").write_text(json.dumps(pieces))
    write_vocabulary(tmp_path / name, pieces)
    assert find_format(tmp_path) is not None
    pieces[40], pieces[41] = pieces[41], pieces[40]
    write_vocabulary(tmp_path / name, pieces)
    with pytest.raises(SourceError, match=f"{name}: its token 40 is '{pieces[40]}', and .* has another one there"):
        find_format(tmp_path)


def write_vocabulary(path: Path, pieces: list[str]) -> None:
    ids = {piece: index for index, piece in enumerate(pieces)}
    path.write_text("\n".join(pieces) if path.suffix == ".txt" else json.dumps({"model": {"vocab": ids}}))


@pytest.mark.parametrize("model", [{"vocab": [["<s>", 0.0], ["a", -1.0]]}, {"vocab": None}, None, []])
def test_a_vocabulary_in_any_form_is_read_or_left_to_its_library(model: Any, tmp_path: Path) -> None:
    (tmp_path / "tokenizer.json").write_text(json.dumps({"model": model}))
    is_unigram = isinstance(model, dict) and bool(model["vocab"])
    assert _pieces_of(tmp_path / "tokenizer.json") == ([("<s>", 0), ("a", 1)] if is_unigram else [])


def test_other_directories_are_none(bert: Path) -> None:
    assert find_format(bert) is None


@pytest.mark.parametrize("name", ["tokenizer_config.json", "special_tokens_map.json"])
def test_settings_of_a_tokenizer_that_is_not_there_are_refused_and_stay_as_they_are(
    name: str, bert: Path, tmp_path: Path
) -> None:
    """A link to them would be written through."""
    model, tokenizer = transformers.AutoModel.from_pretrained(bert), transformers.AutoTokenizer.from_pretrained(bert)
    write_gguf(tmp_path / "model.gguf", bert_metadata(model, pieces_of(tokenizer)), bert_tensors(model))
    (tmp_path / name).write_text('{"model_max_length": 32}')
    with pytest.raises(SourceError, match=f"{name}: its tokenizer is not beside it"):
        find_format(tmp_path / "model.gguf")
    assert (tmp_path / name).read_text() == '{"model_max_length": 32}'


def test_nothing_is_written_through_a_link_that_leads_nowhere(bert: Path, tmp_path: Path) -> None:
    model, tokenizer = transformers.AutoModel.from_pretrained(bert), transformers.AutoTokenizer.from_pretrained(bert)
    write_gguf(tmp_path / "model.gguf", bert_metadata(model, pieces_of(tokenizer)), bert_tensors(model))
    (tmp_path / "tokenizer.json").symlink_to(tmp_path / "gone.json")
    found = find_format(tmp_path / "model.gguf")
    assert found is not None and (found[0] / "tokenizer.json").is_file()
    assert not (tmp_path / "gone.json").exists()
