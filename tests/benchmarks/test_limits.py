"""What a large corpus takes on a cluster: never less than all processors busy to the end, and every task once."""

import pytest

from benchmarks.limits import TEXTS, Costs, on_cluster

COSTS = Costs(
    texts=100, tokens=2600, text_seconds=1e-3, merge_seconds=0.05, sums_bytes=10_000_000, sent_bytes=90_000_000
)


def test_a_cluster_takes_a_little_more_than_all_its_processors() -> None:
    row = on_cluster(COSTS, 10, 0.0)
    assert row["best_seconds"] == pytest.approx(TEXTS * 1e-3 / 10)
    assert row["best_seconds"] < row["seconds"] < 1.5 * row["best_seconds"]
    assert row["merges"] == row["tasks"] - 1 and row["lost_nodes"] == row["repeated_tasks"] == 0
    assert 90_000_000 < row["node_bytes"] <= 90_000_000 + row["tasks"] * 10_000_000


def test_lost_nodes_cost_time_and_no_text() -> None:
    quiet, lossy = (on_cluster(COSTS, 100, lost) for lost in (0.0, 0.05))
    assert lossy["lost_nodes"] > 0 and lossy["repeated_tasks"] > 0 and lossy["seconds"] > quiet["seconds"]


def test_nodes_that_are_lost_faster_than_they_count_end_nothing() -> None:
    assert on_cluster(COSTS, 10, 0.5)["seconds"] is None
