"""The API of text-embeddings-inference."""

from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np
import pytest

import headway
from headway.serving.refusal import Refusal
from headway.serving.tei_api import sequences

from tests.support import retrieval_models
from tests.support.served import client_of

TEXTS = ["the price of bread", "rain"]


@pytest.fixture(scope="module")
def client(embedder: Path, classifier: Path, reranker: Path) -> Iterator[Any]:
    with client_of(embedder, classifier, reranker, most_texts=8) as started:
        yield started


def test_embed_gives_a_vector_for_each_text(client: Any, embedder: Path) -> None:
    expected = headway.open(embedder)(TEXTS)["sentence_embedding"]
    np.testing.assert_allclose(client.post("/embed", json={"inputs": TEXTS}).json(), expected, atol=1e-6)
    one = client.post("/embed", json={"inputs": TEXTS[0], "normalize": False, "truncate": False}).json()
    np.testing.assert_allclose(one, expected[:1], atol=1e-6)


def test_embed_all_gives_a_vector_for_each_token(client: Any, embedder: Path) -> None:
    bundle = headway.open(embedder)
    rows = client.post("/embed_all", json={"inputs": TEXTS}).json()
    hidden = bundle(TEXTS)["last_hidden_state"]
    for row, encoding, expected in zip(rows, bundle.encoder.encode(TEXTS), hidden, strict=True):
        assert len(row) == len(encoding.ids)
        np.testing.assert_allclose(row, expected[: len(row)], atol=1e-5)


def test_embed_sparse_gives_indices_and_values(tmp_path: Path, embedder: Path) -> None:
    source = retrieval_models.splade(tmp_path)
    bundle = headway.open(headway.export(str(source), tmp_path / "sparse").path)
    with client_of(bundle.path) as client:
        rows = client.post("/embed_sparse", json={"inputs": TEXTS}).json()
        for row, expected in zip(rows, bundle.sparse(TEXTS), strict=True):
            assert [entry["index"] for entry in row] == expected.indices.tolist()
            np.testing.assert_allclose([entry["value"] for entry in row], expected.weights, atol=1e-5)
        assert client.post("/embed", json={"inputs": TEXTS}).status_code == 404
    with client_of(embedder) as client:
        assert client.post("/embed_sparse", json={"inputs": TEXTS}).status_code == 404


def test_predict_gives_all_labels_the_likeliest_first(client: Any, classifier: Path) -> None:
    bundle = headway.open(classifier)
    expected = bundle.scores(TEXTS)
    rows = client.post("/predict", json={"inputs": [[t] for t in TEXTS]}).json()
    for row, scores in zip(rows, expected, strict=True):
        assert {r["label"]: pytest.approx(r["score"], abs=1e-6) for r in row} == scores
        assert [r["score"] for r in row] == sorted((r["score"] for r in row), reverse=True)
    (pair,) = bundle.scores([("rain", "bread")])
    answer = client.post("/predict", json={"inputs": ["rain", "bread"]}).json()  # two texts in one list are a pair
    assert {r["label"]: pytest.approx(r["score"], abs=1e-6) for r in answer} == pair
    raw = client.post("/predict", json={"inputs": "rain", "raw_scores": True}).json()
    logits = bundle(["rain"])["logits"][0]
    assert [r["score"] for r in raw] == pytest.approx(sorted(logits.tolist(), reverse=True), abs=1e-5)


def test_predict_gives_entities_of_a_tagger(tagger: Path) -> None:
    expected = headway.open(tagger).entities(TEXTS)
    with client_of(tagger) as client:
        rows = client.post("/predict", json={"inputs": [[t] for t in TEXTS]}).json()
        pairs = client.post("/predict", json={"inputs": ["a", "b"]})
    named = [[(e["label"], e["text"], e["start"], e["end"]) for e in row] for row in expected]
    assert [[(e["entity_group"], e["word"], e["start"], e["end"]) for e in row] for row in rows] == named
    assert pairs.status_code == 422 and "no pairs" in pairs.json()["error"]


def test_rerank_orders_texts_by_their_score(client: Any, reranker: Path) -> None:
    texts = ["bread", "the train runs", "rain with time", "a word"]
    bundle = headway.open(reranker)
    expected = [next(iter(s.values())) for s in bundle.scores([("price", t) for t in texts])]
    rows = client.post("/rerank", json={"query": "price", "texts": texts, "return_text": True}).json()
    assert [r["index"] for r in rows] == sorted(range(4), key=lambda i: -expected[i])
    assert all(
        r["score"] == pytest.approx(expected[r["index"]], abs=1e-6) and r["text"] == texts[r["index"]] for r in rows
    )
    raw = client.post("/rerank", json={"query": "price", "texts": texts, "raw_scores": True}).json()
    logits = bundle([("price", t) for t in texts])["logits"][:, 0]
    assert [r["score"] for r in raw] == pytest.approx(sorted(logits.tolist(), reverse=True), abs=1e-5)
    assert "text" not in raw[0]


@pytest.mark.parametrize(
    ("path", "body", "status", "says"),
    [
        ("/embed", {"inputs": []}, 422, "0 texts"),
        ("/embed", {"inputs": ["x"] * 9}, 413, "1 to 8"),
        ("/embed", {"inputs": "x", "prompt_name": "query"}, 422, "prompt_name 'query' is not offered"),
        ("/embed", {"inputs": "x", "truncation_direction": "Left"}, 422, "not offered"),
        ("/embed", {"inputs": "x", "normalize": "yes"}, 422, "true or false"),
        ("/embed", {"inputs": "bread " * 100}, 413, "inputs 0 has more than the 64"),
        ("/embed", {"inputs": "bread " * 100, "dimensions": 3}, 422, "embeddings have 32"),
        ("/rerank", {"query": 1, "texts": ["x"]}, 422, "query: a text"),
        ("/rerank", {"query": "x"}, 422, "'texts' is missing"),
        ("/predict", {"inputs": []}, 422, "list of lists"),
        ("/predict", {"inputs": ["a", "b", "c"]}, 422, "several texts are a list of lists"),
    ],
)
def test_refusals_have_tei_s_form(client: Any, path: str, body: dict[str, Any], status: int, says: str) -> None:
    answer = client.post(path, json=body)
    assert answer.status_code == status and says in answer.json()["error"]
    assert answer.json()["error_type"] == "Validation"


def test_what_no_model_gives_is_said(embedder: Path) -> None:
    with client_of(embedder) as client:
        answer = client.post("/rerank", json={"query": "x", "texts": ["y"]})
    assert answer.status_code == 404 and "a score for a pair of texts" in answer.json()["error"]


def test_info_says_what_is_served(client: Any, embedder: Path, reranker: Path) -> None:
    info = client.get("/info").json()
    assert info["model_id"] == embedder.name and info["max_input_length"] == 64 and "embedding" in info["model_type"]
    assert [m["name"] for m in info["models"]][::2] == [embedder.name, reranker.name]
    assert all(m["measured"] and m["batch_tokens"] > 0 and len(m["sha256"]) == 64 for m in info["models"])
    with client_of(reranker) as other:
        assert "reranker" in other.get("/info").json()["model_type"]


def test_forms_of_inputs() -> None:
    assert sequences("a") == (["a"], True) and sequences(["a"]) == (["a"], True)
    assert sequences(["a", "b"]) == ([("a", "b")], True)
    assert sequences([["a"], ["b", "c"]]) == (["a", ("b", "c")], False)
    for value in (1, [1], [["a", "b", "c"]], [[]], [["a"], "b"], {"a": 1}):
        with pytest.raises(Refusal):
            sequences(value)
    for value, says in (
        ([1, "a"], "a text, a pair of texts, or a list of lists"),
        (["a", 1], "one text or two are expected in each list"),
    ):
        with pytest.raises(Refusal, match=says):
            sequences(value)
