"""Time models on a workload, each beside another in the same rounds, until the interval of their ratio is narrow."""

import tempfile
import time
from collections.abc import Iterable, Iterator, Sequence
from contextlib import contextmanager
from copy import copy
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Self

import numpy as np
import onnx_ir as ir

from ...runners.base import Runner
from ..bench.measure import IDLE_SECONDS, machine
from ..graph.anatomy import read_anatomy
from ..targets.base import Target
from ..targets.ort.target import OrtTarget
from .work import digest_of_model

ROUNDS = 12
_MOST_ROUNDS = 60
WITHIN = 0.01
"""Rounds are added until half the interval of the ratio is within this part of it."""

RESOLUTION_MS = 0.02
"""What is shorter than this is lost in timers and schedulers: no interval has to be narrower."""

_DRAWS = 400
_SESSIONS = 3
_BASELINE = "baseline"
_ORT = OrtTarget()


@dataclass(frozen=True)
class Workload:
    """Batches, as (texts, tokens), whose mean latency is what counts, run by `threads` threads."""

    shapes: tuple[tuple[int, int], ...]
    threads: int = 1

    @classmethod
    def of(cls, lengths: np.ndarray, *, threads: int = 1) -> "Workload":
        """Return single texts at the user's own lengths: the middles of the four quarters of `lengths [texts]`, in tokens."""
        middles = np.quantile(lengths, [0.125, 0.375, 0.625, 0.875]).round().astype(int)
        return cls(tuple((1, max(int(n), 1)) for n in middles), threads)

    @property
    def mean_tokens(self) -> int:
        """The mean length of a text, in whole tokens: what operations are counted at."""
        return int(np.mean([tokens for _, tokens in self.shapes]))

    def feeds(self, names: Sequence[str]) -> list[dict[str, np.ndarray]]:
        """Return one batch of each shape, without padding. Ids are small enough for any vocabulary, trimmed or of amino acids."""
        batches = []
        for batch, length in self.shapes:
            ids = np.arange(batch * length, dtype=np.int64).reshape(batch, length) % 3 + 3
            known = {"input_ids": ids, "attention_mask": np.ones_like(ids)}
            batches.append({n: known.get(n, np.zeros_like(ids)) for n in names})
        return batches

    def __str__(self) -> str:
        shapes = ", ".join(f"{b}×{n}" for b, n in self.shapes)
        return f"{shapes}; {self.threads} thread(s)"


@dataclass(frozen=True)
class Timing:
    """Latency of a model beside that of a first one: median milliseconds of both, and the 95 % interval of own / first."""

    first_ms: float
    own_ms: float
    low: float
    high: float

    @property
    def ratio(self) -> float:
        """The model's latency as a part of the first one's."""
        return self.own_ms / self.first_ms

    @property
    def half_width(self) -> float:
        """Half the interval of the ratio."""
        return (self.high - self.low) / 2

    @property
    def is_narrow(self) -> bool:
        """Whether more rounds would tell nothing that matters."""
        return self.half_width <= max(WITHIN * self.ratio, RESOLUTION_MS / self.first_ms)

    @classmethod
    def of(cls, times: np.ndarray) -> "Timing":
        """Return the timing of rounds: milliseconds `[rounds, shapes, 2]`. Rounds are resampled, both models' together."""
        picks = np.random.default_rng(0).integers(0, len(times), (_DRAWS, len(times)))
        drawn = np.median(times[picks], axis=1).mean(axis=1)
        low, high = np.quantile(drawn[:, 1] / drawn[:, 0], [0.025, 0.975])
        first, own = np.median(times, axis=0).mean(axis=0)
        return cls(float(first), float(own), float(low), float(high))


def time_beside(first: Runner, own: Runner, workload: Workload, *, rounds: int = ROUNDS) -> Timing:
    """Return the latency of `own` beside that of `first`, in `rounds` rounds, or more while the interval is not narrow.

    All shapes run in turn in every round. One thread is timed by the processor's clock: on a busy machine, time that others had the
    core would make a cut model look slower or faster than it is. Threads that wait for each other are timed by the wall clock.
    """
    return time_in_sessions([(first, own)], [workload], rounds=rounds)[0]


def time_in_sessions(
    pairs: Iterable[tuple[Runner, Runner]],
    workloads: Sequence[Workload],
    *,
    rounds: int = ROUNDS,
    most: int | None = None,
) -> list[Timing]:
    """Return the latency of one model beside another on each workload, over several sessions of both.

    Each session has `rounds` rounds of each workload. Sessions of one and the same model differ by some percent, by where their weights
    lie in memory: more rounds of one session do not show that, so that the last session alone goes on while an interval is not narrow,
    up to `most` rounds (60) of all sessions.
    """
    times: list[list[np.ndarray]] = [[] for _ in workloads]
    for pair in pairs:
        for known, workload in zip(times, workloads, strict=True):
            known += _rounds(pair, workload, rounds, warm=True)
    timings = []
    for known, workload in zip(times, workloads, strict=True):
        while not (timing := Timing.of(np.array(known))).is_narrow and len(known) < (most or _MOST_ROUNDS):
            known += _rounds(pair, workload, rounds, warm=False)
        timings.append(timing)
    return timings


def _rounds(runners: tuple[Runner, Runner], workload: Workload, rounds: int, *, warm: bool) -> list[np.ndarray]:
    """Return milliseconds `[shapes, 2]` of each round; who goes first changes from one to the next. `warm`: run all once before."""
    now = time.thread_time_ns if workload.threads == 1 else time.perf_counter_ns
    feeds = workload.feeds(runners[0].input_names)
    for runner in runners if warm else ():
        for batch in feeds:
            runner.run(batch)
    times = []
    for number in range(rounds):
        turn = np.zeros((len(feeds), 2))
        for i, batch in enumerate(feeds):
            for j in range(2):
                index = (j + number) % 2
                if workload.threads > 1:
                    time.sleep(IDLE_SECONDS)
                    runners[index].run(batch)  # threads that slept may share a processor for their first milliseconds
                start = now()
                runners[index].run(batch)
                turn[i, index] = (now() - start) / 1e6
        times.append(turn)
    return times


def build_model(model: ir.Model, folder: Path, target: OrtTarget = _ORT) -> None:
    """Lower a canonical model (which is used up), and write it to `folder`."""
    folder.mkdir(parents=True, exist_ok=True)
    target.lower(model, read_anatomy(model))
    target.build(model, folder)


def open_model(model: ir.Model, folder: Path, threads: int, target: OrtTarget = _ORT) -> Runner:
    """Lower a canonical model (which is used up), write it to `folder` and open it."""
    build_model(model, folder, target)
    return target.open(folder, target.options(regroup=False), threads)


class Stopwatch:
    """A stopwatch that times models on a workload, each beside the source.

    Models for other targets are timed in ONNX Runtime on a CPU all the same, since the source is; the manifest says so.
    """

    def __init__(self, source: ir.Model, workload: Workload, target: Target, folder: Path):
        """Write the source. Models that are timed are built in `folder`."""
        self.workload = workload
        self.source_ms = 0.0
        self.source_digest = digest_of_model(source)
        self._folder = folder
        self._target = target if isinstance(target, OrtTarget) else OrtTarget()
        build_model(source.clone(), folder / _BASELINE)

    @property
    def target(self) -> OrtTarget:
        """What models are lowered for and opened by, with its kernels and its type of weights."""
        return self._target

    def for_target(self, target: Target) -> Self:
        """Return a stopwatch with the same source for models of another target, as of one with other kernels."""
        other = copy(self)
        other._target = target if isinstance(target, OrtTarget) else OrtTarget()
        return other

    def time(self, model: ir.Model) -> tuple[Timing, int]:
        """Return the latency of a model beside the source's, and bytes of its artifact."""
        with self._built(model) as folder:
            pair = Pair(self._folder / _BASELINE, folder, self._target)
            (timing,) = self.measure(pair, [self.workload], ROUNDS // 2)
            self.source_ms = self.source_ms or timing.first_ms
            return timing, sum(p.stat().st_size for p in self._target.files(folder))

    def time_at(self, model: ir.Model, shapes: Sequence[tuple[int, int]]) -> list[Timing]:
        """Return the latency of a model beside the source's at each of `shapes` alone."""
        if not shapes:
            return []
        with self._built(model) as folder:
            pair = Pair(self._folder / _BASELINE, folder, self._target)
            works = [Workload((shape,), self.workload.threads) for shape in shapes]
            return self.measure(pair, works, 3, 3)

    def measure(self, pair: "Pair", workloads: list[Workload], rounds: int, most: int | None = None) -> list[Timing]:
        """Return the latency of a pair on each workload. A stopwatch that measures elsewhere does it there."""
        return pair.time(workloads, rounds, most)

    def about(self) -> dict[str, Any]:
        """Return what a latency depends on beside model and workload."""
        return machine()

    @contextmanager
    def _built(self, model: ir.Model) -> Iterator[Path]:
        with tempfile.TemporaryDirectory(dir=self._folder) as name:
            build_model(model.clone(), Path(name), self._target)
            yield Path(name)


@dataclass(frozen=True)
class Pair:
    """Artifacts of the source and of a model, in folders of their own; `target` opens the model."""

    source: Path
    own: Path
    target: OrtTarget

    def time(self, workloads: list[Workload], rounds: int, most: int | None = None) -> list[Timing]:
        """Return the latency of the model beside the source's on each workload, over several sessions of both."""
        return time_in_sessions(self._sessions(workloads[0].threads), workloads, rounds=rounds, most=most)

    def _sessions(self, threads: int) -> Iterator[tuple[Runner, Runner]]:
        for _ in range(_SESSIONS):
            places = ((_ORT, self.source), (self.target, self.own))
            first, own = (target.open(place, target.options(regroup=False), threads) for target, place in places)
            yield first, own
