"""The process in which Triton interprets its kernels, started once."""

import multiprocessing
from collections.abc import Callable, Iterator
from concurrent.futures import ProcessPoolExecutor
from typing import Any

import pytest


@pytest.fixture(scope="session")
def interpreted() -> Iterator[Callable[..., Any]]:
    """Return `interpreted(function, *arguments)`, which runs a function of `triton_worker` in that process."""
    pytest.importorskip("triton", reason="Triton is published for Linux only")
    import triton_worker

    context = multiprocessing.get_context("spawn")
    with ProcessPoolExecutor(1, mp_context=context, initializer=triton_worker.start) as pool:

        def run(function: Callable[..., Any], *arguments: Any) -> Any:
            try:
                return pool.submit(function, *arguments).result(timeout=120)
            except TimeoutError:
                for process in pool._processes.values():  # a kernel that does not end would keep the pool from closing
                    process.kill()
                raise

        yield run
