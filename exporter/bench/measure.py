"""Paired measurement: all contestants in turn, round after round, so that a machine that slows down slows all of them."""

import os
import platform
import time
from collections.abc import Callable, Mapping, Sequence
from dataclasses import asdict, dataclass, field
from importlib.metadata import PackageNotFoundError, version
from pathlib import Path
from typing import Any

import numpy as np

from ...calibration.batches import Encode
from ...calibration.corpus import mixed_lengths
from ...calibration.interval import interval
from ...processor import about

Feeds = dict[str, np.ndarray]
IDLE_SECONDS = 0.1
"""Between two contestants: ONNX Runtime's threads spin for up to 50 ms after a run and would take the next one's processor."""

_IDLE_OF_MANY = 0.25
"""Where contestants have several threads: those of OpenMP's runtimes spin for 200 ms."""


@dataclass(frozen=True)
class Case:
    """A batch shape: `batch` texts of `length` tokens. None stands for real mixed lengths, padded to the longest."""

    batch: int
    length: int | None

    @property
    def label(self) -> str:
        """Return the name of the case in tables and files."""
        return f"{self.batch}x{self.length}" if self.length else f"mixed {self.batch}"


DEFAULT_CASES = (Case(1, 32), Case(1, 128), Case(8, 128), Case(1, 512), Case(32, None))


@dataclass(frozen=True)
class Contestant:
    """Something that answers a batch."""

    name: str
    run: Callable[[Feeds], object]


@dataclass
class CaseResult:
    """All rounds of one case.

    `milliseconds[contestant]` are in the order of rounds. `tokens` are those of a batch without padding, `padding` is its share.
    """

    label: str
    batch: int
    tokens: int
    padding: float
    milliseconds: dict[str, list[float]]

    def percentile(self, name: str, q: float) -> float:
        """Return a percentile of a contestant's milliseconds."""
        return float(np.percentile(self.milliseconds[name], q))

    def throughput(self, name: str) -> float:
        """Return real tokens per second at the median."""
        return self.tokens / self.percentile(name, 50) * 1e3

    def ratio(self, name: str) -> tuple[float, float, float]:
        """Return the latency ratio of `name` to the first contestant, with its 95 % interval."""
        first = next(iter(self.milliseconds))
        return ratio_interval(np.array(self.milliseconds[first]), np.array(self.milliseconds[name]))


@dataclass
class BenchResult:
    """The figures of a measurement. The others are compared with the first contestant; `files` are what was written."""

    contestants: list[str]
    threads: int
    cases: list[CaseResult]
    machine: dict[str, Any] = field(default_factory=dict)
    files: list[Path] = field(default_factory=list, compare=False)

    def geometric_mean(self, name: str) -> float:
        """Return the geometric mean over the cases of the latency ratio of `name` to the first contestant."""
        return float(np.exp(np.mean([np.log(c.ratio(name)[0]) for c in self.cases])))

    def to_json(self) -> dict[str, Any]:
        """Return the figures as plain values; `files` are left out."""
        rows = []
        for case in self.cases:
            rows.append(
                asdict(case)
                | {
                    "p50_ms": {n: case.percentile(n, 50) for n in self.contestants},
                    "p90_ms": {n: case.percentile(n, 90) for n in self.contestants},
                    "p99_ms": {n: case.percentile(n, 99) for n in self.contestants},
                    "tokens_per_second": {n: case.throughput(n) for n in self.contestants},
                    "ratio_to_first": {n: case.ratio(n) for n in self.contestants[1:]},
                }
            )
        means = {n: self.geometric_mean(n) for n in self.contestants[1:]}
        return {
            "contestants": self.contestants,
            "threads": self.threads,
            "cases": rows,
            "geometric_mean": means,
            "machine": self.machine,
        }

    @classmethod
    def from_json(cls, raw: Mapping[str, Any]) -> "BenchResult":
        """Return the result that `to_json` gave."""
        names = ("label", "batch", "tokens", "padding", "milliseconds")
        cases = [CaseResult(**{k: row[k] for k in names}) for row in raw["cases"]]
        return cls(list(raw["contestants"]), int(raw["threads"]), cases, dict(raw["machine"]))


def ratio_interval(a: np.ndarray, b: np.ndarray, *, seed: int = 0, draws: int = 2000) -> tuple[float, float, float]:
    """Return median(b) / median(a) and its 95 % bootstrap interval; rounds are resampled, `a[i]` with `b[i]`."""
    low, high = interval(
        lambda picks: np.median(b[picks], axis=1) / np.median(a[picks], axis=1), len(a), seed=seed, draws=draws
    )
    return float(np.median(b) / np.median(a)), low, high


def feeds_for(case: Case, tokenize: Encode, lines: Sequence[str], longest: int, *, seed: int = 0) -> Feeds:
    """Return int64 `[batch, length]` arrays of real text by input name.

    A case of one length has no padding; a mixed batch has the share of production. Raises ValueError where it is longer than
    `longest`.
    """
    rng = np.random.default_rng(seed)
    lengths = np.full(case.batch, case.length) if case.length else mixed_lengths(case.batch, min(longest, 62), seed)
    width = int(lengths.max())
    if width > longest:
        raise ValueError(f"a case of {width} tokens is longer than the model's {longest}")
    rows = []
    for length in lengths:
        order = rng.permutation(len(lines))
        text = " ".join(lines[i] for i in order)
        while len(text) < 12 * int(length):
            text += " " + text
        rows.append(tokenize([text], int(length)))
    names = rows[0]
    batch = {name: np.zeros((case.batch, width), np.int64) for name in names}
    for i, row in enumerate(rows):
        for name, array in row.items():
            batch[name][i, : array.shape[1]] = array[0]
    return batch


def measure(
    contestants: Sequence[Contestant],
    feeds: Mapping[Case, Feeds],
    *,
    rounds: int,
    threads: int,
    seconds_per_case: float = 40.0,
    on_progress: Callable[..., None] = lambda *_, **__: None,
) -> BenchResult:
    """Time every contestant on every case: one warm-up, then `rounds` rounds; who goes first changes each round.

    A case stops early, after at least 5 rounds, when its time is up. `on_progress(part, of=total)` is called each round.
    """
    results = []
    for case, batch in feeds.items():
        for contestant in contestants:
            contestant.run(batch)
        times: dict[str, list[float]] = {c.name: [] for c in contestants}
        began = time.perf_counter()
        for turn in range(rounds):
            on_progress(f"measure, {case.label}", of=rounds * len(feeds))
            if turn >= 5 and time.perf_counter() - began > seconds_per_case:
                continue
            for i in range(len(contestants)):
                contestant = contestants[(i + turn) % len(contestants)]
                time.sleep(IDLE_SECONDS if threads == 1 else _IDLE_OF_MANY)
                if threads > 1:
                    contestant.run(batch)  # threads that slept may share a processor for their first milliseconds
                start = time.perf_counter_ns()
                contestant.run(batch)
                times[contestant.name].append((time.perf_counter_ns() - start) / 1e6)
        tokens = int(batch["attention_mask"].sum())
        padding = 1 - tokens / batch["attention_mask"].size
        results.append(CaseResult(case.label, case.batch, tokens, padding, times))
    return BenchResult([c.name for c in contestants], threads, results, machine())


def machine() -> dict[str, Any]:
    """Return the processor, its vector instructions and the versions that a figure depends on."""
    cpu, flags = about()
    features = ("avx2", "avx512f", "avx512_vnni", "avx_vnni", "amx_int8", "asimddp", "i8mm")
    versions = {}
    for package in ("headway", "onnxruntime", "torch", "numpy"):
        try:
            versions[package] = version(package)
        except PackageNotFoundError:
            continue
    return {
        "cpu": cpu,
        "cores": os.cpu_count(),
        "features": [f for f in features if f in flags],
        "python": platform.python_version(),
        "system": f"{platform.system()} {platform.machine()}",
        "versions": versions,
    }
