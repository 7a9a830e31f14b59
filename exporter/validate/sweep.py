"""Measure a bundle over threads and batch sizes, and how its first runs warm up."""

import os
import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from typing import Any

import numpy as np

from .feeds import feeds_of
from .noise import spin
from .percentiles import percentile
from .throughput import throughput_of

BATCHES = (1, 2, 4, 8, 16, 32)
WARM_RUNS = 50
WARM_PROCESSES = 3
_LEAST = 6
"""So many batches are timed at least: of fewer, no rate has an interval."""


def thread_counts() -> list[int]:
    """Return 1, 2, 4 and so on, up to the cores that this process may use, and those."""
    cores = len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count() or 1
    return [*(1 << power for power in range(cores.bit_length()) if 1 << power < cores), cores]


def run_sweep(bundle: Any, request: Mapping[str, Any], say: Callable[[Mapping[str, Any]], None]) -> None:
    """Time batches of each size in `sweep` for `seconds`, over the texts of a request in random order. Runs in a worker."""
    for size in request["sweep"]:
        times = list(_timed(bundle, request["texts"], size, request["seconds"]))
        say({"sweep": {"batch": size, "ms": times}, "spin": spin()})


def _timed(bundle: Any, texts: Sequence[Any], size: int, seconds: float) -> Iterator[float]:
    """Yield milliseconds of batches of `size` texts; the first one is a warm-up. Tokenization is not counted."""
    rng = np.random.default_rng(size)
    spent, count = 0.0, 0
    while spent < seconds or count <= _LEAST:
        feeds = feeds_of(bundle, [texts[i] for i in rng.integers(0, len(texts), size)])
        began = time.perf_counter()
        bundle.runner.run(feeds)
        took = time.perf_counter() - began
        if count:
            spent += took
            yield took * 1e3
        count += 1


def cells_of(threads: int, measured: Sequence[Mapping[str, Any]]) -> list[dict[str, Any]]:
    """Return the figures of each batch size that a process with `threads` threads measured, each with its interval or None."""
    cells = []
    for one in measured:
        times = np.array(one["ms"])
        figures = {
            "p50_ms": percentile(times, 50),
            "p90_ms": percentile(times, 90),
            "p99_ms": percentile(times, 99),
            "texts_per_second": throughput_of(np.full(len(times), one["batch"]), times),
        }
        plain = {name: None if figure is None else figure.to_json() for name, figure in figures.items()}
        cells.append({"threads": threads, "batch": one["batch"], "samples": len(times)} | plain)
    return cells
