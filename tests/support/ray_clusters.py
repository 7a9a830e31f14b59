"""Ray clusters of several nodes on this machine."""

import os
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

import pytest


@contextmanager
def cluster_here() -> Iterator[Any]:
    """Yield a cluster whose head has no processors, connected to."""
    import ray
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


@pytest.fixture(scope="module")
def cluster() -> Iterator[Any]:
    """Give a cluster whose head has no processors to the tests of a module."""
    pytest.importorskip("ray", reason="the extra search is not installed")
    with cluster_here() as made:
        yield made


def add_node(cluster: Any, **resources: float) -> Any:
    """Add a node of one processor, with custom resources."""
    node = cluster.add_node(num_cpus=1, object_store_memory=80 << 20, resources=resources)
    cluster.wait_for_nodes()
    return node
