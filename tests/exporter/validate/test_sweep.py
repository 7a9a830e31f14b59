"""The sweep over threads and batches: what is timed, and which figures come of it."""

from typing import Any

import numpy as np
import pytest

from headway.exporter.export import Exported
from headway.exporter.validate import sweep

from .test_worker import said


def test_threads_are_powers_of_two_and_all_cores(monkeypatch: pytest.MonkeyPatch) -> None:
    for cores, expected in ((1, [1]), (2, [1, 2]), (6, [1, 2, 4, 6]), (8, [1, 2, 4, 8])):
        monkeypatch.setattr(sweep.os, "sched_getaffinity", lambda _, n=cores: set(range(n)), raising=False)
        assert sweep.thread_counts() == expected


def test_a_worker_times_every_size(bert_bundle: Exported) -> None:
    results: list[Any] = []
    request = {
        "bundle": str(bert_bundle.path),
        "threads": 1,
        "texts": ["a text", "the train runs"],
        "sweep": [1, 3],
        "seconds": 0.0,
    }
    from headway.exporter.validate import worker

    worker.work(request, results.append)
    found = [result["sweep"] for result in results if "sweep" in result]
    assert [one["batch"] for one in found] == [1, 3] and all(
        len(one["ms"]) >= 6 and min(one["ms"]) > 0 for one in found
    )
    assert sum("spin" in result for result in results) == 2


def test_the_first_runs_are_told_one_by_one(bert_bundle: Exported) -> None:
    results = said({"bundle": str(bert_bundle.path), "threads": 1, "texts": ["a text"], "warm": 5})
    assert len(results["warm_ms"]) == 5 and min(results["warm_ms"]) > 0


def test_cells_have_figures_where_samples_are_enough() -> None:
    many = np.random.default_rng(0).gamma(9.0, 1.0, 800).tolist()
    cells = sweep.cells_of(2, [{"batch": 8, "ms": many}, {"batch": 32, "ms": [4.0] * 5}])
    assert cells[0]["threads"] == 2 and cells[0]["p50_ms"]["value"] == pytest.approx(np.median(many))
    assert cells[0]["p99_ms"] is not None
    assert cells[0]["texts_per_second"]["value"] == pytest.approx(8 * 800 / sum(many) * 1e3)
    assert cells[1] == {"threads": 2, "batch": 32, "samples": 5} | dict.fromkeys(
        ("p50_ms", "p90_ms", "p99_ms", "texts_per_second")
    )
