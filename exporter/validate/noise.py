"""Measure what a machine takes from a measurement, and record the settings that latency depends on."""

import os
import time
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np

from ..bench.measure import machine

_SPIN_SECONDS = 0.02
_GAP_NS = 20_000
"""One turn of the loop takes a tenth of a microsecond: what is longer, somebody else had."""

QUIET = 0.05
"""Up to this part of the time taken, wall-clock figures are given without a remark."""

_CPU = Path("/sys/devices/system/cpu/cpu0/cpufreq")
_ENERGY = Path("/sys/class/powercap/intel-rapl:0/energy_uj")


@dataclass(frozen=True)
class Noise:
    """What the machine took away: `share` of the time, from 0 to 1, and the longest pause in milliseconds. `spins` were measured."""

    share: float
    longest_ms: float
    spins: int

    @property
    def quiet(self) -> bool:
        """Whether wall-clock figures mean what they say."""
        return self.share <= QUIET

    def to_json(self) -> dict[str, Any]:
        """Return the noise as plain values."""
        return {"share": self.share, "longest_ms": self.longest_ms, "spins": self.spins, "quiet": self.quiet}


def spin(seconds: float = _SPIN_SECONDS) -> tuple[float, float, float]:
    """Return the seconds that a loop of `seconds` did not run, its longest pause in milliseconds, and how long it took in all.

    The loop reads the clock and does nothing else, so that a jump of the clock is time that another process, the system or another
    virtual machine had. Counters of the system miss the last of these.
    """
    taken = longest = 0
    now = time.perf_counter_ns
    last = begun = now()
    end = begun + int(seconds * 1e9)
    while last < end:
        at = now()
        gap = at - last
        if gap > _GAP_NS:
            taken += gap
            longest = max(longest, gap)
        last = at
    return taken / 1e9, longest / 1e6, (last - begun) / 1e9


def noise_of(spins: Sequence[tuple[float, float, float]]) -> Noise:
    """Return the noise of spins, each as (seconds taken, longest pause in milliseconds, seconds spun)."""
    total = sum(seconds for _, _, seconds in spins)
    if not total:
        return Noise(0.0, 0.0, 0)
    return Noise(sum(taken for taken, _, _ in spins) / total, max(ms for _, ms, _ in spins), len(spins))


def lost(wall: np.ndarray, cpu: np.ndarray) -> float:
    """Return the part of wall-clock times in which a single-threaded call had no processor, by its own clock."""
    total = float(wall.sum())
    return max(0.0, 1 - float(cpu.sum()) / total) if total else 0.0


def machine_facts(threads: int) -> dict[str, Any]:
    """Return the machine and its settings: processor, versions, load, governor, frequency, and the cores that may be used."""
    facts = machine() | {"threads": threads, "load": list(os.getloadavg()) if hasattr(os, "getloadavg") else None}
    if hasattr(os, "sched_getaffinity"):
        facts["allowed_cores"] = len(os.sched_getaffinity(0))
    facts["governor"] = _read(_CPU / "scaling_governor")
    facts["frequency_khz"] = _read(_CPU / "scaling_cur_freq")
    facts["quota"] = _read(Path("/sys/fs/cgroup/cpu.max"))
    return facts


def machine_kind(facts: dict[str, Any]) -> str:
    """Return what machines have in common on which the same code takes about the same time: processor, instructions, system."""
    return f"{facts['cpu']}; {facts['system']}; {' '.join(facts['features'])}"


def energy_joules() -> float | None:
    """Return the processor's count of energy, None where the machine does not report it or keeps it from users."""
    read = _read(_ENERGY)
    return None if read is None else int(read) / 1e6


def _read(path: Path) -> str | None:
    try:
        return path.read_text(encoding="utf-8").strip()
    except OSError:
        return None
