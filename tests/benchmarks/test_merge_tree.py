"""The simulated cluster: each task is in the result once, whatever is lost, and without losses it takes what can be worked out."""

import pytest

from benchmarks.merge_tree import Cluster, simulate


def test_one_node_does_one_thing_after_the_other() -> None:
    outcome = simulate(Cluster(nodes=1, tasks=10, task_seconds=3.0, merge_seconds=0.5))
    assert outcome.seconds == pytest.approx(10 * 3.0 + 9 * 0.5)
    assert (outcome.merges, outcome.lost_nodes, outcome.repeated_tasks) == (9, 0, 0) and outcome.most_sums == 10


def test_a_merge_tree_is_as_deep_as_a_logarithm() -> None:
    outcome = simulate(Cluster(nodes=64, tasks=64, task_seconds=10.0, merge_seconds=1.0))
    assert outcome.seconds == pytest.approx(10.0 + 6 * 1.0)


@pytest.mark.parametrize("seed", range(5))
def test_lost_nodes_lose_nothing_and_double_nothing(seed: int) -> None:
    cluster = Cluster(
        nodes=20, tasks=200, task_seconds=20.0, merge_seconds=2.0, spread=0.3, lost_per_hour=30.0, seed=seed
    )
    outcome = simulate(cluster)
    assert outcome.lost_nodes > 0 and outcome.repeated_tasks > 0
    assert outcome.counted == dict.fromkeys(range(200), 1)
    quiet = simulate(Cluster(nodes=20, tasks=200, task_seconds=20.0, merge_seconds=2.0))
    assert outcome.seconds > quiet.seconds
