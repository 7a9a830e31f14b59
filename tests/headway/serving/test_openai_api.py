"""OpenAI's embeddings API."""

import base64
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np
import pytest

import headway

from tests.support.served import client_of

TEXTS = ["the price of bread", "rain"]


@pytest.fixture(scope="module")
def client(embedder: Path, classifier: Path) -> Iterator[Any]:
    with client_of(embedder, classifier, most_texts=8) as started:
        yield started


@pytest.fixture(scope="module")
def expected(embedder: Path) -> np.ndarray:
    return headway.open(embedder)(TEXTS)["sentence_embedding"]


def test_embeddings_are_the_bundle_s(client: Any, embedder: Path, expected: np.ndarray) -> None:
    answer = client.post("/v1/embeddings", json={"model": embedder.name, "input": TEXTS}).json()
    assert [d["index"] for d in answer["data"]] == [0, 1] and answer["model"] == embedder.name
    np.testing.assert_allclose([d["embedding"] for d in answer["data"]], expected, atol=1e-6)
    tokens = sum(len(e.ids) for e in headway.open(embedder).encoder.encode(TEXTS))
    assert answer["usage"] == {"prompt_tokens": tokens, "total_tokens": tokens}


def test_base64_is_little_endian_float32(client: Any, embedder: Path, expected: np.ndarray) -> None:
    body = {"model": embedder.name, "input": TEXTS[1], "encoding_format": "base64", "dimensions": 32, "user": "ada"}
    (row,) = client.post("/v1/embeddings", json=body).json()["data"]
    np.testing.assert_allclose(np.frombuffer(base64.b64decode(row["embedding"]), "<f4"), expected[1], atol=1e-6)


@pytest.mark.parametrize(
    ("changes", "status", "says"),
    [
        ({"model": "gpt"}, 404, "no model 'gpt'"),
        ({"model": "served-classifier"}, 400, "gives no embeddings"),
        ({"input": [1, 2]}, 422, "token ids go to"),
        ({"input": []}, 422, "0 texts"),
        ({"input": ["x"] * 9}, 413, "1 to 8 at once"),
        ({"input": "bread " * 100}, 413, "truncate: true"),
        ({"dimensions": 8}, 422, "not cut"),
        ({"encoding_format": "hex"}, 422, "not offered"),
        ({"input_type": "query"}, 422, "not known"),
    ],
)
def test_refusals_have_openai_s_form(
    client: Any, embedder: Path, changes: dict[str, Any], status: int, says: str
) -> None:
    answer = client.post("/v1/embeddings", json={"model": embedder.name, "input": "rain", **changes})
    assert answer.status_code == status
    assert says in answer.json()["error"]["message"] and set(answer.json()["error"]) == {
        "message",
        "type",
        "param",
        "code",
    }


def test_long_texts_are_cut_where_asked(client: Any, embedder: Path) -> None:
    body = {"model": embedder.name, "input": "bread " * 100, "truncate": True}
    assert client.post("/v1/embeddings", json=body).json()["usage"]["prompt_tokens"] == 64


def test_models_are_listed(client: Any, embedder: Path, classifier: Path) -> None:
    assert [m["id"] for m in client.get("/v1/models").json()["data"]] == [embedder.name, classifier.name]
    assert client.get(f"/v1/models/{classifier.name}").json()["object"] == "model"
    assert client.get("/v1/models/none").status_code == 404
