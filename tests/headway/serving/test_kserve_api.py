"""KServe v2: texts and tensors, values and bytes."""

import json
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np
import pytest

import headway

from tests.support.served import client_of

TEXTS = ["the price of bread", "rain"]
TEXT = {"name": "text", "shape": [2], "datatype": "BYTES", "data": TEXTS}


@pytest.fixture(scope="module")
def client(embedder: Path, classifier: Path) -> Iterator[Any]:
    with client_of(embedder, classifier, most_texts=8) as started:
        yield started


def arrays(answer: dict[str, Any]) -> dict[str, np.ndarray]:
    return {o["name"]: np.array(o["data"], "f4").reshape(o["shape"]) for o in answer["outputs"]}


def test_texts_give_the_bundle_s_outputs(client: Any, embedder: Path) -> None:
    body = {"id": "seven", "inputs": [TEXT]}
    answer = client.post(f"/v2/models/{embedder.name}/versions/1/infer", json=body).json()
    assert (answer["id"], answer["model_name"], answer["model_version"]) == ("seven", embedder.name, "1")
    expected = headway.open(embedder)(TEXTS)
    assert set(arrays(answer)) == set(expected)
    for name, array in arrays(answer).items():
        np.testing.assert_allclose(array, expected[name], atol=1e-5)


def test_pairs_of_texts(client: Any, classifier: Path) -> None:
    pair = {"name": "text", "shape": [1, 2], "datatype": "BYTES", "data": ["rain", "bread"]}
    answer = client.post(f"/v2/models/{classifier.name}/infer", json={"inputs": [pair]}).json()
    np.testing.assert_allclose(
        arrays(answer)["logits"], headway.open(classifier)([("rain", "bread")])["logits"], atol=1e-5
    )


def tensors(bundle: headway.Bundle) -> dict[str, np.ndarray]:
    feeds = bundle.encoder(TEXTS)
    return {i.name: feeds[i.name] for i in bundle.manifest.inputs}


def test_tensors_give_the_bundle_s_outputs(client: Any, embedder: Path) -> None:
    bundle = headway.open(embedder)
    inputs = [
        {"name": name, "shape": list(a.shape), "datatype": "INT64", "data": a.tolist()}
        for name, a in tensors(bundle).items()
    ]
    body = {"inputs": inputs, "outputs": [{"name": "sentence_embedding"}]}
    answer = client.post(f"/v2/models/{embedder.name}/infer", json=body).json()
    (given,) = arrays(answer).values()
    np.testing.assert_allclose(given, bundle(TEXTS)["sentence_embedding"], atol=1e-6)


def test_bytes_after_the_json_as_triton_s_clients_send_them(client: Any, embedder: Path) -> None:
    bundle = headway.open(embedder)
    inputs, tail = [], b""
    for name, array in tensors(bundle).items():
        raw = array.tobytes()
        inputs.append(
            {
                "name": name,
                "shape": list(array.shape),
                "datatype": "INT64",
                "parameters": {"binary_data_size": len(raw)},
            }
        )
        tail += raw
    head = json.dumps({"inputs": inputs, "parameters": {"binary_data_output": True}}).encode()
    headers = {"Inference-Header-Content-Length": str(len(head))}
    answer = client.post(f"/v2/models/{embedder.name}/infer", content=head + tail, headers=headers)
    size = int(answer.headers["Inference-Header-Content-Length"])
    outputs, at = json.loads(answer.content[:size])["outputs"], size
    expected = bundle(TEXTS)
    for output in outputs:
        end = at + output["parameters"]["binary_data_size"]
        array = np.frombuffer(answer.content[at:end], "<f4").reshape(output["shape"])
        np.testing.assert_allclose(array, expected[output["name"]], atol=1e-5)
        at = end
    assert at == len(answer.content)


def ids(data: Any = None, **changes: Any) -> dict[str, Any]:
    return {
        "name": "input_ids",
        "shape": [1, 2],
        "datatype": "INT64",
        "data": [1, 2] if data is None else data,
        **changes,
    }


@pytest.mark.parametrize(
    ("body", "status", "says"),
    [
        ({}, 400, "a list of tensors"),
        ({"inputs": []}, 400, "a list of tensors"),
        ({"inputs": [{"name": "text"}]}, 400, "name, datatype, shape"),
        ({"inputs": [TEXT, ids()]}, 400, "not both"),
        ({"inputs": [TEXT, TEXT]}, 400, "given twice"),
        ({"inputs": [{**TEXT, "shape": [2, 3], "data": ["x"] * 6}]}, 400, r"[n, 2] for pairs"),
        ({"inputs": [{**TEXT, "shape": [9], "data": ["x"] * 9}]}, 413, "1 to 8"),
        ({"inputs": [{**TEXT, "shape": [1], "data": ["bread " * 99]}]}, 413, "more than the 64"),
        ({"inputs": [ids(name="other")]}, 400, "'other' is no input"),
        ({"inputs": [ids([1, 99999])]}, 400, "embeddings for the ids"),
        ({"inputs": [ids([1], shape=[1])]}, 400, "2 dimensions"),
        ({"inputs": [ids([], shape=[0, 2])]}, 400, "at least one"),
        ({"inputs": [ids([1] * 65, shape=[1, 65])]}, 413, "reads 64"),
        ({"inputs": [ids(parameters={"binary_data_size": 16})]}, 400, "does not fit the body"),
        ({"inputs": [ids(["a", "b"], datatype="BYTES")]}, 400, "integers of 2 dimensions"),
        ({"inputs": [TEXT], "outputs": [{"name": "sentence_embedding", "parameters": [1]}]}, 400, "an object"),
        ({"inputs": [{**TEXT, "parameters": "x"}]}, 400, "an object"),
        ({"inputs": [TEXT], "outputs": [{"name": "x"}]}, 400, "'x' is no output"),
        ({"inputs": [TEXT], "outputs": 3}, 400, "a list of names"),
    ],
)
def test_refusals_have_kserve_s_form(client: Any, embedder: Path, body: Any, status: int, says: str) -> None:
    answer = client.post(f"/v2/models/{embedder.name}/infer", json=body)
    assert answer.status_code == status, answer.text
    assert says in answer.json()["error"] and set(answer.json()) == {"error"}


def test_bytes_that_belong_to_no_tensor_are_refused(client: Any, embedder: Path) -> None:
    head = json.dumps({"inputs": [TEXT]}).encode()
    sizes = (str(len(head)), "belong to no tensor"), ("1000000", "and the body has"), ("9" * 5000, "and the body has")
    for size, says in (*sizes, ("²", "and the body has")):
        headers = {"Inference-Header-Content-Length": size.encode("latin-1")}
        answer = client.post(f"/v2/models/{embedder.name}/infer", content=head + b"more", headers=headers)
        assert answer.status_code == 400 and says in answer.json()["error"]


def test_what_a_server_and_a_model_say_of_themselves(client: Any, embedder: Path) -> None:
    assert client.get("/v2").json()["name"] == "headway"
    about = client.get(f"/v2/models/{embedder.name}").json()
    assert about["inputs"][0] == {"name": "text", "datatype": "BYTES", "shape": [-1]}
    assert {"name": "sentence_embedding", "datatype": "FP32", "shape": [-1, 32]} in about["outputs"]
    assert client.get(f"/v2/models/{embedder.name}/ready").json()["ready"] is True
    for path in ("/v2/models/none", f"/v2/models/{embedder.name}/versions/2"):
        assert client.get(path).status_code == 404
