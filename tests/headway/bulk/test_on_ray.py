"""Runs on a cluster of several nodes on this machine: the same rows, also where a node is lost."""

import json
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow.parquet as pq
import pytest

import headway
from headway.bulk.on_ray import compute_on, connect
from headway.bulk.shard_run import run
from headway.errors import TargetError, UsageError

from tests.support.ray_clusters import add_node

ray = pytest.importorskip("ray", reason="the extra search is not installed")

TEXTS = ["the price of bread", "rain", "a small model runs", "rain and bread"] * 10


@pytest.fixture
def data(tmp_path: Path) -> Path:
    file = tmp_path / "in.jsonl"
    file.write_text("".join(json.dumps({"id": i, "text": text}) + "\n" for i, text in enumerate(TEXTS)))
    return file


@pytest.mark.slow
def test_a_lost_node_costs_its_shards_alone(cluster: Any, embedder: Path, data: Path) -> None:
    nodes = [add_node(cluster), add_node(cluster)]
    out, lost = data.with_name("out.parquet"), []

    def step(name: str, of: int | None = None, at: float | None = None) -> None:
        if name == "shards" and at and not lost:
            lost.append(at)
            cluster.remove_node(nodes.pop(), allow_graceful=False)

    done = run(embedder, data, out, rows=4, compute=compute_on("auto"), step=step)
    assert lost and (done.shards, done.counts.rows) == (10, len(TEXTS))
    rows = pq.read_table(out).to_pylist()
    assert [row["id"] for row in rows] == list(range(len(TEXTS)))
    expected = headway.open(embedder)(TEXTS)["sentence_embedding"]
    np.testing.assert_allclose([row["embedding"] for row in rows], expected, atol=1e-5)


def test_a_node_gives_the_rows_of_this_machine_and_its_errors_come_as_themselves(
    cluster: Any, embedder: Path, data: Path, tmp_path: Path
) -> None:
    add_node(cluster)
    out = tmp_path / "out.parquet"
    assert run(embedder, data, out, rows=16, compute=compute_on("auto")).shards == 3
    rows = pq.read_table(out).to_pylist()
    assert [row["id"] for row in rows] == list(range(len(TEXTS)))
    expected = headway.open(embedder)(TEXTS)["sentence_embedding"]
    np.testing.assert_allclose([row["embedding"] for row in rows], expected, atol=1e-5)
    with pytest.raises(UsageError, match="row 1 of 'id' is no text"):
        run(embedder, data, tmp_path / "other.parquet", column="id", compute=compute_on("auto"))


def test_an_address_that_does_not_answer(monkeypatch: pytest.MonkeyPatch) -> None:
    def refuses(**_: object) -> None:
        raise ConnectionError("Could not reach it\nand more")

    monkeypatch.setattr(ray, "is_initialized", lambda: False)
    monkeypatch.setattr(ray, "init", refuses)
    with pytest.raises(TargetError, match=r"10\.0\.0\.1:6379: no Ray cluster .*\(Could not reach it\)"):
        connect("10.0.0.1:6379")
