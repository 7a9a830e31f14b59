"""The HTTP handler: answers, limits, and bundles for another task."""

import importlib.util
import shutil
import sys
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any

import pytest

import headway
from headway import Bundle, errors
from headway.exporter.export import Exported

pytest.importorskip("fastapi", reason="fastapi is not installed")

HANDLER = Path(__file__).parents[2] / "examples" / "fastapi_handler.py"


def client(bundle: Path, patch: pytest.MonkeyPatch) -> Any:
    """Return a client of a freshly imported handler, not yet started."""
    from fastapi.testclient import TestClient

    patch.setenv("HEADWAY_BUNDLE", str(bundle))
    patch.setenv("HEADWAY_THREADS", "1")
    spec = importlib.util.spec_from_file_location("fastapi_handler", HANDLER)
    assert spec is not None and spec.loader is not None
    module = importlib.util.module_from_spec(spec)
    patch.setitem(sys.modules, "fastapi_handler", module)  # where FastAPI looks its annotations up
    spec.loader.exec_module(module)
    return TestClient(module.app)


@pytest.fixture(scope="module")
def classifier(bert_classifier: Path, workshop: Path) -> Path:
    return headway.export(bert_classifier, workshop / "handler-bundle").path


@pytest.fixture
def service(classifier: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[Any]:
    with client(classifier, monkeypatch) as started:
        yield started


def test_labels_are_the_bundle_s(service: Any, classifier: Path) -> None:
    texts = ["the price of bread", "rain"]
    answer = service.post("/labels", json={"texts": texts})
    assert answer.status_code == 200
    expected = Bundle.open(classifier, threads=1).labels(texts)
    assert [(row["label"], pytest.approx(row["probability"])) for row in answer.json()] == expected


def test_health_names_the_model(service: Any, classifier: Path) -> None:
    manifest = Bundle.open(classifier).manifest
    expected = {"task": "text-classification", "target": "ort", "sha256": manifest.files["model.onnx"]["sha256"]}
    assert service.get("/health").json() == expected


def test_many_clients_get_the_answers_of_one(service: Any) -> None:
    bodies = [{"texts": [f"train {n} of bread", "rain " * n]} for n in range(1, 25)]
    alone = [service.post("/labels", json=body).json() for body in bodies]
    with ThreadPoolExecutor(8) as pool:
        together = list(pool.map(lambda body: service.post("/labels", json=body).json(), bodies))
    assert together == alone


@pytest.mark.parametrize(
    "texts", [[], ["x"] * 65, ["x" * 20_001], "one string", [1]], ids=["none", "many", "long", "string", "number"]
)
def test_requests_beyond_the_limits_are_refused(service: Any, texts: object) -> None:
    assert service.post("/labels", json={"texts": texts}).status_code == 422


def test_a_classifier_gives_no_embeddings(service: Any) -> None:
    answer = service.post("/embeddings", json={"texts": ["rain"]})
    assert answer.status_code == 400
    assert "text-classification" in answer.json()["detail"]


def test_embeddings_are_the_bundle_s(sentence_bundle: Exported, monkeypatch: pytest.MonkeyPatch) -> None:
    texts = ["the price of bread", "rain"]
    with client(sentence_bundle.path, monkeypatch) as started:
        vectors = started.post("/embeddings", json={"texts": texts}).json()
        assert started.post("/labels", json={"texts": texts}).status_code == 400
    expected = Bundle.open(sentence_bundle.path, threads=1)(texts)["sentence_embedding"]
    assert vectors == pytest.approx(expected, abs=1e-7)


def test_a_damaged_bundle_ends_the_start(classifier: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    damaged = Path(shutil.copytree(classifier, tmp_path / "damaged"))
    config = damaged / "config.json"
    config.write_bytes(config.read_bytes().replace(b"0", b"1", 1))  # of the same length: only the checksum tells
    with pytest.raises(errors.SourceError, match=r"config\.json"), client(damaged, monkeypatch):
        pass
