"""A model in another runtime's format is laid out as a directory; its own tokenizer files come first."""

from pathlib import Path

import pytest
import transformers

from headway.errors import SourceError
from headway.exporter.source.formats.find_format import find_format

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
    (tmp_path / "tokenizer.json").write_text("its own")
    beside = find_format(tmp_path / "model.gguf")
    assert beside is not None
    assert (beside[0] / "tokenizer.json").read_text() == "its own"
    write_gguf(tmp_path / "other.gguf", metadata, {})
    with pytest.raises(SourceError, match=r"several GGUF files, model\.gguf, other\.gguf"):
        find_format(tmp_path)


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
