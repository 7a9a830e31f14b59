"""The worker: what it says of a bundle, line by line."""

from typing import Any

import pytest

from headway.exporter.export import Exported
from headway.exporter.validate import worker


def said(request: dict[str, Any]) -> dict[str, Any]:
    results: dict[str, Any] = {"rounds": []}

    def say(result: dict[str, Any]) -> None:
        results.update(result)
        results["rounds"] += [result["round"]] if "round" in result else []

    worker.work(request, say)
    return results


@pytest.mark.parametrize("other", [False, True])
def test_rounds_beside_another_and_beside_the_reference_workload(bert_bundle: Exported, other: bool) -> None:
    path = str(bert_bundle.path)
    request = {"bundle": path, "threads": 1, "texts": ["a text", "the train runs"], "rounds": 2, "warm": 3}
    results = said(request | ({"other": path} if other else {}))
    assert len(results["rounds"]) == 2 and len(results["warm_ms"]) == 3
    assert all(wall > 0 for turn in results["rounds"] for pair in turn for wall, _ in pair)
    cold = results["cold"]
    assert cold["total_ms"] >= cold["import_ms"] + cold["load_ms"] + cold["first_run_ms"] > 0
    assert results["rss_mb"] is None or results["rss_mb"] > 10
