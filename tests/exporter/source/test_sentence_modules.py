"""Directories of sentence-transformers: their modules, settings, and the class that saved them."""

import json
import shutil
from pathlib import Path

import pytest

from headway.errors import SourceError
from headway.exporter.source.sentence_modules import library_class, read_modules, similarity_of
from headway.exporter.source.source import open_source

from tests.support import models


@pytest.fixture
def sentence(tmp_path: Path) -> Path:
    return models.make_sentence_model(tmp_path / "sentence")


def test_modules_are_read_in_order(sentence: Path) -> None:
    (sentence / "sentence_roberta_config.json").write_text(
        '{"max_seq_length": 24, "tokenizer_args": {"use_fast": true}}'
    )
    modules = read_modules(sentence)
    assert [m.kind for m in modules] == ["Transformer", "Pooling", "Normalize"]
    assert modules[0].config["max_seq_length"] == 24 and modules[0].tokenizer_settings == {"use_fast": True}
    assert modules[1].config["pooling_mode_mean_tokens"] is True
    assert modules[2].config == {} and not modules[2].file.exists()


@pytest.mark.parametrize(
    ("content", "says"),
    [
        ("{", "not valid JSON"),
        ('{"0": 1}', "not a list"),
        ('[{"type": "a.B", "path": "\\ud800"}]', "not valid JSON"),  # half a character names no folder
        ("[]", "lists no module"),
        ("[1]", "1 has no type"),
        ('[{"type": "a.B", "path": "../x"}]', "'../x' is outside the directory"),
        ('[{"type": "a.B", "path": "/x"}]', "'/x' is outside the directory"),
        ('[{"type": "a.B", "path": "x\\u0000"}]', "is outside the directory"),
    ],
)
def test_a_list_that_is_none_is_refused(tmp_path: Path, content: str, says: str) -> None:
    (tmp_path / "modules.json").write_text(content)
    with pytest.raises(SourceError, match=r"modules\.json") as caught:
        read_modules(tmp_path)
    assert says in str(caught.value)


def test_the_class_that_saved_a_directory(sentence: Path, tmp_path: Path) -> None:
    modules = read_modules(sentence)
    assert library_class(sentence, {}, modules) == "SentenceTransformer"
    (sentence / "config_sentence_transformers.json").write_text('{"model_type": "SparseEncoder"}')
    assert library_class(sentence, {}, modules) == "SparseEncoder"
    assert library_class(tmp_path, {}, ()) is None
    assert (
        library_class(tmp_path, {"sentence_transformers": {"activation_fn": "torch.nn.Identity"}}, ()) == "CrossEncoder"
    )


def test_the_task_is_that_of_the_class(sentence: Path) -> None:
    (sentence / "config_sentence_transformers.json").write_text(json.dumps({"model_type": "SparseEncoder"}))
    assert open_source(str(sentence)).task == "sparse-embedding"
    assert open_source(str(sentence), task="feature-extraction").judge_class is None


@pytest.mark.parametrize("named", [None, "dot", "maxsim"])
def test_the_function_that_compares(named: str | None, tmp_path: Path) -> None:
    (tmp_path / "config_sentence_transformers.json").write_text(json.dumps({"similarity_fn_name": named}))
    assert similarity_of(tmp_path, "sentence-embedding") == ("dot" if named == "dot" else "cosine")
    assert similarity_of(tmp_path, "sparse-embedding") == "dot"
    assert similarity_of(tmp_path, "fill-mask") == ""
    assert similarity_of(None, "sparse-embedding") == "dot"


@pytest.mark.parametrize(
    ("settings", "told"),
    [
        ({}, "structure and types of a Router are expected"),
        ({"structure": {"query": ["../x"]}, "types": {"../x": "a.B"}}, "'../x' is no folder of a module with a type"),
        ({"structure": {"query": ["x"]}, "types": {}}, "'x' is no folder of a module with a type"),
        ({"structure": {"query": []}, "types": {}}, "the route 'query' lists no module"),
        ({"structure": {"document": []}, "types": {}}, "there is no route 'query'; the Router has: document"),
    ],
)
def test_a_router_that_is_damaged(settings: dict[str, object], told: str, tmp_path: Path) -> None:
    entry = {"idx": 0, "name": "0", "path": "", "type": "sentence_transformers.models.Router"}
    (tmp_path / "modules.json").write_text(json.dumps([entry]))
    (tmp_path / "router_config.json").write_text(json.dumps(settings))
    with pytest.raises(SourceError, match=told):
        open_source(f"{tmp_path}#query")


@pytest.mark.parametrize("kind", ["AudioEncoder"])
def test_encoders_with_other_outputs_are_refused_by_name(sentence: Path, kind: str) -> None:
    (sentence / "config_sentence_transformers.json").write_text(json.dumps({"model_type": kind}))
    with pytest.raises(SourceError, match=f"saved by {kind} of sentence-transformers"):
        open_source(str(sentence))
    assert open_source(str(sentence), task="feature-extraction").judge_class is None


def test_a_first_module_that_is_no_transformer_is_refused_by_name(sentence: Path) -> None:
    listed = json.loads((sentence / "modules.json").read_text())
    listed[0]["type"] = "sentence_transformers.models.BoW"
    (sentence / "modules.json").write_text(json.dumps(listed))
    with pytest.raises(SourceError, match=r"first module is sentence_transformers\.models\.BoW"):
        open_source(str(sentence))


def test_the_encoder_may_lie_in_a_folder_of_its_own(sentence: Path, tmp_path: Path) -> None:
    moved = in_folder(sentence)
    source = open_source(str(moved))
    assert source.directory == moved and source.encoder_directory == moved / "0_Transformer"
    assert source.weights == (moved / "0_Transformer" / "model.safetensors",)
    assert source.task == "sentence-embedding" and source.config["vocab_size"] == models.VOCABULARY


def in_folder(directory: Path) -> Path:
    """Move a directory's encoder into `0_Transformer`, where early versions of sentence-transformers had it."""
    (directory / "0_Transformer").mkdir()
    for path in directory.iterdir():
        if path.is_file() and path.name != "modules.json":
            shutil.move(path, directory / "0_Transformer" / path.name)
    listed = json.loads((directory / "modules.json").read_text())
    listed[0]["path"] = "0_Transformer"
    (directory / "modules.json").write_text(json.dumps(listed))
    return directory
