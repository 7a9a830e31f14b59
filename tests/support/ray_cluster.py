"""A Ray cluster of several nodes on this machine, for tests that lose some of them."""

import os
from collections.abc import Iterator
from typing import Any

import pytest


@pytest.fixture(scope="module")
def cluster() -> Iterator[Any]:
    """Give a cluster whose head computes nothing, connected."""
    ray = pytest.importorskip("ray", reason="the extra search is not installed")
    from ray.cluster_utils import Cluster

    os.environ["RAY_ENABLE_UV_RUN_RUNTIME_ENV"] = "0"
    # Ray's workers are nice, and a busy machine would hardly let them run.
    os.environ["RAY_worker_niceness"] = "0"  # noqa: SIM112
    made = Cluster(
        initialize_head=True,
        head_node_args={"num_cpus": 0, "object_store_memory": 80 << 20, "include_dashboard": False},
    )
    ray.init(address=made.address, log_to_driver=False, logging_level="ERROR")
    yield made
    ray.shutdown()
    made.shutdown()


def add_node(cluster: Any) -> Any:
    """Add a node of one processor, and return it."""
    node = cluster.add_node(num_cpus=1, object_store_memory=80 << 20)
    cluster.wait_for_nodes()
    return node
