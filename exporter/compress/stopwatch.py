"""Time models on a workload, each beside another in the same rounds, until the interval of their ratio is narrow."""

import tempfile
import time
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import onnx_ir as ir

from ...runners.base import Runner
from ..bench.measure import IDLE_SECONDS
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
    now = time.thread_time_ns if workload.threads == 1 else time.perf_counter_ns
    runners = (first, own)
    feeds = workload.feeds(first.input_names)
    for batch in feeds:
        for runner in runners:
            runner.run(batch)
    times: list[np.ndarray] = []
    while True:
        for _ in range(rounds):
            turn = np.zeros((len(feeds), 2))
            for i, batch in enumerate(feeds):
                for j in range(2):
                    index = (j + len(times)) % 2
                    if workload.threads > 1:
                        time.sleep(IDLE_SECONDS)
                        runners[index].run(
                            batch
                        )  # threads that slept may share a processor for their first milliseconds
                    start = now()
                    runners[index].run(batch)
                    turn[i, index] = (now() - start) / 1e6
            times.append(turn)
        timing = Timing.of(np.array(times))
        if timing.is_narrow or len(times) >= _MOST_ROUNDS:
            return timing


def open_model(model: ir.Model, folder: Path, threads: int, target: OrtTarget = _ORT) -> Runner:
    """Lower a canonical model (which is used up), write it to `folder` and open it."""
    folder.mkdir(parents=True, exist_ok=True)
    target.lower(model, read_anatomy(model))
    target.build(model, folder)
    return target.open(folder, target.options(regroup=False), threads)


class Stopwatch:
    """A stopwatch that times models on a workload, each beside the source.

    Models for other targets are timed in ONNX Runtime on a CPU all the same, since the source is; the manifest says so.
    """

    def __init__(self, source: ir.Model, workload: Workload, target: Target, folder: Path):
        """Open the source. Models that are timed are built in `folder`."""
        self.workload = workload
        self.source_ms = 0.0
        self.source_digest = digest_of_model(source)
        self._folder = folder
        self._target = target if isinstance(target, OrtTarget) else OrtTarget()
        self._source = open_model(source.clone(), folder / "baseline", workload.threads)

    def time(self, model: ir.Model) -> tuple[Timing, int]:
        """Return the latency of a model beside the source's, and bytes of its artifact."""
        with tempfile.TemporaryDirectory(dir=self._folder) as name:
            folder = Path(name)
            runner = open_model(model.clone(), folder, self.workload.threads, self._target)
            timing = time_beside(self._source, runner, self.workload)
            self.source_ms = self.source_ms or timing.first_ms
            return timing, sum(p.stat().st_size for p in self._target.files(folder))

    def time_at(self, model: ir.Model, shapes: Sequence[tuple[int, int]]) -> list[Timing]:
        """Return the latency of a model beside the source's at each of `shapes` alone."""
        with tempfile.TemporaryDirectory(dir=self._folder) as name:
            runner = open_model(model.clone(), Path(name), self.workload.threads, self._target)
            return [
                time_beside(self._source, runner, Workload((shape,), self.workload.threads), rounds=5)
                for shape in shapes
            ]
