"""Ray clusters of several nodes on this machine."""

import os
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

import pytest

_ON_A_BUSY_MACHINE = {
    "RAY_ENABLE_UV_RUN_RUNTIME_ENV": "0",
    "RAY_worker_niceness": "0",
    "RAY_worker_register_timeout_seconds": "300",
}
_TRIES = 5
"""Ray gives a node 30 seconds to start, which a busy machine may not have."""


@contextmanager
def cluster_here() -> Iterator[Any]:
    """Yield a cluster whose head has no processors, connected to."""
    import ray
    from ray.cluster_utils import Cluster

    os.environ |= _ON_A_BUSY_MACHINE
    made = Cluster()
    _started(made, num_cpus=0, include_dashboard=False)
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
    node = _started(cluster, num_cpus=1, resources=resources)
    cluster.wait_for_nodes()
    return node


def _started(cluster: Any, **options: Any) -> Any:
    for attempt in range(_TRIES):
        try:
            return cluster.add_node(object_store_memory=80 << 20, **options)
        except Exception as error:
            if "timed out during startup" not in str(error) or attempt == _TRIES - 1:
                raise
    return None
