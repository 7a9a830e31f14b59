"""The search demo: the page, and results that are the nearest lines."""

import importlib.util
import json
from pathlib import Path
from typing import Any

import numpy as np
import pytest

import headway
from headway.exporter.export import Exported

pytest.importorskip("starlette", reason="the extra serve is not installed")

LINES = ["the price of bread", "rain", "a small model of language runs with time", "the train runs"]


@pytest.fixture(scope="module")
def demo() -> Any:
    path = Path(__file__).parents[2] / "examples" / "search_demo.py"
    spec = importlib.util.spec_from_file_location("search_demo", path)
    assert spec is not None and spec.loader is not None
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module


def test_a_line_finds_itself_first(demo: Any, sentence_bundle: Exported) -> None:
    from starlette.testclient import TestClient

    client = TestClient(demo.application(headway.open(sentence_bundle.path, threads=1), LINES))
    assert "Search 4 lines" in client.get("/").text
    for line in LINES:
        results = client.get("/search", params={"q": line}).json()["results"]
        assert results[0]["text"] == line and results[0]["score"] == pytest.approx(1, abs=1e-5)
        assert sorted(r["text"] for r in results) == sorted(LINES)
    assert client.get("/search", params={"q": " "}).json() == {"results": []}


def test_lines_are_read(demo: Any, tmp_path: Path) -> None:
    (tmp_path / "a.txt").write_text("one\n\n two \n")
    (tmp_path / "b.jsonl").write_text("\n".join(json.dumps({"text": t}) for t in LINES))
    assert demo.read_lines(tmp_path / "a.txt") == ["one", "two"] and demo.read_lines(tmp_path / "b.jsonl") == LINES


def test_the_index_is_exact_without_a_graph(demo: Any) -> None:
    vectors = np.eye(3, dtype=np.float32)
    index = demo.Index(vectors)
    assert [i for i, _ in index.nearest(np.array([0.1, 0.9, 0.4], np.float32), 2)] == [1, 2]
