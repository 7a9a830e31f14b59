"""The head of a SetFit directory becomes part of the graph: its logits give scikit-learn's probabilities."""

import json
import sys
import types
import warnings
from pathlib import Path
from typing import Any

import joblib
import numpy as np
import pytest
import torch
from sklearn.linear_model import LogisticRegression
from sklearn.multiclass import OneVsRestClassifier
from sklearn.multioutput import ClassifierChain, MultiOutputClassifier

from headway.errors import SourceError
from headway.exporter.capture.capture import load_reference
from headway.exporter.source.scoring import scoring_of
from headway.exporter.source.setfit_head import read_head
from headway.exporter.source.source import open_source

from tests.support.models import make_sentence_model

TEXTS = ["the price of bread", "rain", "a small model runs with time", "trains and rain"]
RNG = np.random.default_rng(0)
X, Y = RNG.normal(size=(60, 32)), RNG.integers(0, 3, 60)
MANY = RNG.integers(0, 2, (60, 3))


@pytest.fixture(scope="module")
def body(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return make_sentence_model(tmp_path_factory.mktemp("body"), normalize=False)


def saved(directory: Path, head: Any, **settings: Any) -> Path:
    joblib.dump(head, directory / "model_head.pkl")
    (directory / "config_setfit.json").write_text(
        json.dumps({"labels": None, "normalize_embeddings": False} | settings)
    )
    return directory


@pytest.mark.parametrize("kind", ["three", "two", "one-vs-rest", "multi-output"])
def test_probabilities_are_those_of_scikit_learn(kind: str, body: Path) -> None:
    many = kind in ("one-vs-rest", "multi-output")
    plain = LogisticRegression()
    head = {"one-vs-rest": OneVsRestClassifier(plain), "multi-output": MultiOutputClassifier(plain)}.get(kind, plain)
    head.fit(X, MANY if many else Y > 0 if kind == "two" else Y)
    saved(body, head, normalize_embeddings=kind == "two", labels=["a", "b"] if kind == "two" else None)
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        reference, source = load_reference(open_source(str(body), allow_pickle=True))
        vectors = load_reference(open_source(str(body), task="sentence-embedding"))[0].from_text(TEXTS)
    assert source.task == "text-classification"
    assert scoring_of(source).kind == ("multi-label" if many else "single-label")
    logits = torch.from_numpy(reference.from_text(TEXTS).outputs["logits"])
    embeddings = vectors.outputs["sentence_embedding"]
    if kind == "two":
        assert list(source.config["id2label"].values()) == ["a", "b"]
        embeddings = embeddings / np.linalg.norm(embeddings, axis=1, keepdims=True)
    wanted = head.predict_proba(embeddings)
    wanted = np.stack([p[:, 1] for p in wanted], 1) if kind == "multi-output" else wanted
    got = (logits.sigmoid() if many else logits.softmax(-1)).numpy()
    assert np.abs(got - wanted).max() < 1e-5


def test_a_torch_head_is_read_without_its_library(tmp_path: Path) -> None:
    class SetFitHead(torch.nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.linear, self.temperature, self.eps, self.multitarget = torch.nn.Linear(4, 3), 0.5, 1e-5, True

    made = types.ModuleType("setfit.modeling")
    SetFitHead.__module__, SetFitHead.__qualname__ = "setfit.modeling", "SetFitHead"
    made.SetFitHead = SetFitHead  # type: ignore[attr-defined]
    head = SetFitHead()
    sys.modules |= {"setfit": types.ModuleType("setfit"), "setfit.modeling": made}
    try:
        saved(tmp_path, head, labels=["a", "b", "c"])
    finally:
        del sys.modules["setfit"], sys.modules["setfit.modeling"]
    read = read_head(tmp_path, allow_pickle=True)
    assert read is not None and read.several and read.labels == ("a", "b", "c")
    assert np.allclose(read.weight, head.linear.weight.detach().numpy() / 0.50001)
    assert "setfit" not in sys.modules


def test_a_head_is_refused_where_it_is_not_allowed_or_not_linear(body: Path) -> None:
    saved(body, LogisticRegression().fit(X, Y))
    with pytest.raises(SourceError, match=r"SetFit's head is a pickle.*--allow-pickle"):
        open_source(str(body))
    assert open_source(str(body), task="sentence-embedding").head is None
    for head, says in (
        (ClassifierChain(LogisticRegression()).fit(X, MANY), "a head of the kind ClassifierChain"),
        (OneVsRestClassifier(LogisticRegression()).fit(X, Y), "a head of the kind OneVsRestClassifier"),
    ):
        with pytest.raises(SourceError, match=says):
            read_head(saved(body, head), allow_pickle=True)
    with pytest.raises(SourceError, match="3 names are expected"):
        read_head(saved(body, LogisticRegression().fit(X, Y), labels=["a"]), allow_pickle=True)
    (body / "model_head.pkl").write_bytes(b"no pickle")
    with pytest.raises(SourceError, match="the head does not load"):
        read_head(body, allow_pickle=True)
