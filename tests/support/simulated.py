"""A simulated machine with runners whose laws are known, so that intervals and verdicts can be counted against the truth."""

import math
from collections.abc import Callable
from dataclasses import dataclass, field
from functools import cache
from pathlib import Path

import numpy as np

LAWS = ("constant", "bimodal", "drifting", "bursts")
SESSION_SPREAD = 0.01
"""Sessions of one model differ by so much, as a part."""

BURST, QUIET = 0.05, 0.5
"""Mean seconds of a burst of noise, and between two."""

_MS = 10.0


@dataclass
class Machine:
    """A machine with a clock in seconds. Calls take 10 ms times a noise of the `law`; a block costs `start` seconds to begin."""

    law: str
    seed: int = 0
    start: float = 0.5
    jitter: float = 0.01
    now: float = 0.0
    rng: np.random.Generator = field(init=False)
    _drift: float = 0.0
    _busy_until: float = 0.0
    _next_burst: float = 0.0

    def __post_init__(self) -> None:
        self.rng = np.random.default_rng(self.seed)
        self._drift = float(self.rng.normal())
        self._busy_until = float(self.rng.exponential(BURST)) if self.rng.random() < BURST / (BURST + QUIET) else 0.0
        self._next_burst = self._busy_until + float(self.rng.exponential(QUIET))

    def clock(self) -> float:
        return self.now

    def call(self, scale: float = 1.0) -> float:
        """Return milliseconds of a call of a runner that is `scale` times as slow, and move the clock."""
        ms = _MS * scale * math.exp(self.rng.normal() * self.jitter) * self._noise()
        self._pass(ms / 1e3)
        return ms

    def _noise(self) -> float:
        if self.law == "bimodal":
            return 1.3 if self.rng.random() < 0.3 else 1.0
        if self.law == "drifting":
            return math.exp(0.1 * self._drift)
        if self.law == "bursts" and self.now < self._busy_until:
            return 1.0 + float(self.rng.random())
        return 1.0

    def _pass(self, seconds: float) -> None:
        self.now += seconds
        keep = math.exp(-seconds / 0.5)  # the drift forgets itself within half a second
        self._drift = keep * self._drift + math.sqrt(1 - keep * keep) * float(self.rng.normal())
        if self.now >= self._next_burst:
            self._busy_until = self.now + float(self.rng.exponential(BURST))
            self._next_burst = self._busy_until + float(self.rng.exponential(QUIET))

    def block(self, slowdown: float = 1.0, rounds: int = 6) -> tuple[np.ndarray, np.ndarray]:
        """Return times of a runner and of another, `[rounds, 1]` each, of a new session of both; who goes first changes."""
        self._pass(self.start)
        scales = np.exp(self.rng.normal(size=2) * SESSION_SPREAD) * (slowdown, 1.0)
        times = np.zeros((rounds, 2))
        for turn in range(rounds):
            for j in range(2):
                index = (j + turn) % 2
                times[turn, index] = self.call(float(scales[index]))
        return times[:, :1], times[:, 1:]

    def calls(self, count: int) -> np.ndarray:
        """Return milliseconds of `count` calls of one session."""
        return np.array([self.call() for _ in range(count)])


@cache
def true_percentile(law: str, q: float) -> float:
    """Return the percentile of a law's calls."""
    return float(np.quantile(_long_run(law), q / 100))


@cache
def _long_run(law: str) -> np.ndarray:
    return np.concatenate([Machine(law, seed=10_000 + i).calls(20_000) for i in range(20)])


Trial = Callable[[float], np.ndarray]


def queue(service_ms: float, queries: int, seed: int = 0) -> Trial:
    """Return trials of an M/D/1 queue: sojourn times in milliseconds of `queries` Poisson arrivals at a rate in queries a second."""
    numbers = iter(range(seed, 1 << 30))

    def trial(rate: float) -> np.ndarray:
        rng = np.random.default_rng(next(numbers))
        arrivals = np.cumsum(rng.exponential(1e3 / rate, queries))
        # Lindley: the work that waits is what came, less what was done, since the last time that nothing waited.
        work = np.arange(queries) * service_ms - arrivals
        return np.asarray(work - np.minimum.accumulate(work) + service_ms)

    return trial


def waiting_below(rate: float, service_ms: float, ms: float) -> float:
    """Return the probability that a query of an M/D/1 queue waits at most `ms` (Erlang 1909; see Tijms, A First Course, 9.2)."""
    load, arrivals = rate * service_ms / 1e3, rate / 1e3
    total = 0.0
    for k in range(int(ms // service_ms) + 1):
        x = arrivals * (k * service_ms - ms)
        total += x**k / math.factorial(k) * math.exp(-x)
    return (1 - load) * total


def capacity(service_ms: float, bound_ms: float, part: float = 0.99) -> float:
    """Return the rate at which a `part` of an M/D/1 queue's answers comes within `bound_ms`."""
    low, high = 0.0, 1e3 / service_ms
    for _ in range(60):
        rate = (low + high) / 2
        low, high = (rate, high) if waiting_below(rate, service_ms, bound_ms - service_ms) >= part else (low, rate)
    return low


def crashing_worker() -> str:
    """Return the file of a worker that dies half-way."""
    return str(Path(__file__).parent / "crashing_worker.py")
