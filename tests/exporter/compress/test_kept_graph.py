"""A graph that is kept is the one that was traced, for this source and these settings alone."""

import json
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from headway.exporter.compress import kept_graph
from headway.exporter.compress.kept_graph import GraphStore
from headway.exporter.compress.work import Work, digest_of_model
from headway.exporter.graph.anatomy import describe, read_anatomy
from headway.exporter.graph.canonical import Canonical
from headway.exporter.source.source import open_source

from tests.support import models, retrieval_models


def canonical(directory: Path, work: Work, task: str | None = None) -> tuple[Canonical, Any]:
    store = GraphStore(open_source(str(directory), task=task), work, whole=False)
    captured = store.capture()
    return store.canonical(captured), captured


def refuse(*_: Any, **__: Any) -> Any:
    raise AssertionError("traced again")


@pytest.mark.parametrize("family", ["bert", pytest.param("deberta-v2", marks=pytest.mark.slow)])
def test_the_second_run_has_the_same_graph(family: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    directory, work = models.make_model(tmp_path / "model", family, num_hidden_layers=3), Work(tmp_path / "work")
    first, captured = canonical(directory, work)
    digest, anatomy = digest_of_model(first.model), describe(read_anatomy(first.model))
    assert [entry.kind for entry in work.entries()] == ["graph"]
    monkeypatch.setattr(kept_graph, "capture", refuse)
    second, again = canonical(directory, work)
    assert digest_of_model(second.model) == digest and second.sources == first.sources
    assert describe(read_anatomy(second.model)) == anatomy
    assert again.repeated == captured.repeated and again.source.probed == captured.source.probed
    feeds = {name: np.ones((1, 4), np.int64) for name in ("input_ids", "attention_mask", "token_type_ids")}
    assert again.reference.run(feeds).keys() == captured.reference.run(feeds).keys()  # the library itself is there


def test_another_setting_or_task_is_traced_anew(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    directory = models.make_model(tmp_path / "model", "bert", "fill-mask", num_hidden_layers=3)
    work = Work(tmp_path / "work")
    canonical(directory, work)
    monkeypatch.setattr(kept_graph, "capture", refuse)
    with pytest.raises(AssertionError, match="traced again"):
        canonical(directory, work, "feature-extraction")
    (directory / "config.json").write_text(
        json.dumps(json.loads((directory / "config.json").read_text()) | {"hidden_act": "relu"})
    )
    with pytest.raises(AssertionError, match="traced again"):
        canonical(directory, work)


def test_a_damaged_graph_is_traced_and_kept_again(tmp_path: Path) -> None:
    directory = models.make_model(tmp_path / "model", "bert", num_hidden_layers=3)
    canonical(directory, Work(None))
    work = Work(tmp_path / "work")
    digest = digest_of_model(canonical(directory, work)[0].model)
    for name, content in (("model.data", b""), ("model.onnx", b""), ("model.onnx", b"\x08\x09"), ("facts.json", b"{")):
        (work.entries()[0].path / name).write_bytes(content)
        assert digest_of_model(canonical(directory, work)[0].model) == digest
        assert len((work.entries()[0].path / name).read_bytes()) > 2


def test_a_graph_that_is_not_the_source_s_is_dropped(tmp_path: Path) -> None:
    directory, work = models.make_model(tmp_path / "model", "bert", num_hidden_layers=3), Work(tmp_path / "work")
    first = GraphStore(open_source(str(directory)), work, whole=False)
    first.canonical(first.capture())
    assert first.drop() == ""  # it was traced
    again = GraphStore(open_source(str(directory)), work, whole=False)
    assert "is dropped now: run it again" in again.drop() and not work.entries()


@pytest.mark.slow
def test_models_of_sentence_transformers_are_kept_with_their_modules(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    directory, work = retrieval_models.late_interaction(tmp_path), Work(tmp_path / "work")
    digest = digest_of_model(canonical(directory, work)[0].model)
    monkeypatch.setattr(kept_graph, "capture", refuse)
    second, captured = canonical(directory, work)
    assert digest_of_model(second.model) == digest and captured.source.sides
