"""Time models one at a time on a machine: a trial that is timed beside another's would be measured too slow. Imports torch."""

import os
import tempfile
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from ...errors import TargetError
from ...replaced import lock
from ..compress.stopwatch import Pair, Stopwatch, Timing, Workload


class NothingMeasures(TargetError):
    """Nothing is left that latency can be measured on: no further trial makes sense."""


class SharedStopwatch(Stopwatch):
    """A stopwatch that waits while another search on this machine measures."""

    def measure(self, pair: Pair, workloads: list[Workload], rounds: int, most: int | None = None) -> list[Timing]:
        """Return the latency of a pair on each workload, once no other is measured."""
        with alone():
            return super().measure(pair, workloads, rounds, most)


@contextmanager
def alone() -> Iterator[None]:
    """Hold this user's right to measure on this machine; it ends with the process, however that ends."""
    user = os.getuid() if hasattr(os, "getuid") else 0
    folder = Path(tempfile.gettempdir()) / f"headway-measuring-{user}"
    folder.mkdir(mode=0o700, exist_ok=True)
    handle = lock(folder, wait=True)
    try:
        yield
    finally:
        if handle is not None:
            os.close(handle)
