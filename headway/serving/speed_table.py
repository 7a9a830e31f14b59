"""Measure how long batches take by their tokens, and choose from it how large a batch may be and how long it may wait for more."""

import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass

import numpy as np

from ..bundle import Bundle
from ..runners.base import Runner

TEXT_TOKENS = 32
"""Tokens of each text in a measured batch, where the model takes as many."""

SIZES = (16, 32, 64, 128, 256, 512, 1024, 2048, 4096)
"""Tokens of the batches that are measured, until one takes too long."""

_ENOUGH = 0.97
"""The part of the best throughput that a larger batch has to keep: caches overflow."""

_TIMES = 3


@dataclass(frozen=True)
class SpeedTable:
    """Seconds of a batch by its tokens, as measured on this machine: `sizes` ascending."""

    sizes: tuple[int, ...]
    seconds: tuple[float, ...]

    def of(self, tokens: float) -> float:
        """Return the seconds that a batch of so many tokens takes; beyond the table, at the rate of its last row."""
        if tokens <= self.sizes[-1]:
            return float(np.interp(tokens, self.sizes, self.seconds))
        return self.seconds[-1] * tokens / self.sizes[-1]

    def budget(self, p99: float) -> int:
        """Return the tokens of a batch: few enough for the latency that is wanted, and enough for the throughput.

        A request may come just after a batch began. So two batches have to fit into `p99` seconds, and a tenth is left for
        everything else. Of those that do, the largest is taken that reaches nearly the best throughput: batches grow with the queue
        alone, and each has costs beside the model's.
        """
        fitting = [i for i, s in enumerate(self.seconds) if 2 * s <= 0.9 * p99] or [0]
        best = max(self.sizes[i] / self.seconds[i] for i in fitting)
        return max(self.sizes[i] for i in fitting if self.sizes[i] / self.seconds[i] >= _ENOUGH * best)

    def wait(self, p99: float) -> float:
        """Return the seconds that a batch may wait for more texts while others run.

        What joining a batch saves is the fixed cost of a run: longer than that no wait pays. It has to fit into `p99` too.
        """
        if len(self.sizes) < 2:
            return 0.0
        _, fixed = np.polyfit(self.sizes, self.seconds, 1, w=1 / np.array(self.seconds))
        left = 0.9 * p99 - 2 * self.of(self.budget(p99))
        return float(max(0.0, min(fixed, left)))


def measure_bundle(bundle: Bundle, p99: float) -> SpeedTable:
    """Return the table of an open bundle: see `measure_speed`."""
    manifest = bundle.manifest
    return measure_speed(
        bundle.runner,
        p99,
        longest=manifest.tokenizer.max_length,
        vocabulary=bundle.runner.limits.vocabulary or bundle.encoder.tokenizer.get_vocab_size(),
        several=manifest.task == "multiple-choice",
    )


def measure_speed(
    runner: Runner,
    p99: float,
    *,
    longest: int,
    vocabulary: int,
    several: bool = False,
    clock: Callable[[], float] = time.perf_counter,
) -> SpeedTable:
    """Return the table of a runner: the fastest of a few runs of each size, until one exceeds half of `p99` seconds.

    Texts have `TEXT_TOKENS` tokens, or `longest` where the model takes fewer. `several`: the model reads several texts as one row
    (multiple-choice).
    """
    length = min(TEXT_TOKENS, longest)
    sizes: list[int] = []
    seconds: list[float] = []
    for size in SIZES:
        rows, columns = max(1, size // length), min(size, length)
        feeds = _batch(rows, columns, vocabulary, runner.input_names)
        if several:
            feeds = {name: array[None] for name, array in feeds.items()}
        took = _fastest(runner, feeds, clock)
        sizes.append(rows * columns)
        seconds.append(max(took, 1e-6))
        if took > p99 / 2:
            break
    return SpeedTable(*_without_repeats(sizes, seconds))


def _batch(rows: int, columns: int, vocabulary: int, names: Sequence[str]) -> dict[str, np.ndarray]:
    ids = (np.arange(rows * columns, dtype=np.int64) * 7919 % max(vocabulary, 1)).reshape(rows, columns)
    arrays = {"input_ids": ids, "attention_mask": np.ones_like(ids), "token_type_ids": np.zeros_like(ids)}
    return {name: array for name, array in arrays.items() if name in names}


def _fastest(runner: Runner, feeds: dict[str, np.ndarray], clock: Callable[[], float]) -> float:
    runner.run(feeds)  # the first run of a shape allocates
    times = []
    for _ in range(_TIMES):
        start = clock()
        runner.run(feeds)
        times.append(clock() - start)
    return min(times)


def _without_repeats(sizes: list[int], seconds: list[float]) -> tuple[tuple[int, ...], tuple[float, ...]]:
    """Return rows with different sizes, whose seconds never fall: a smaller batch is not slower but by noise."""
    kept: dict[int, float] = {}
    for size, took in zip(sizes, seconds, strict=True):
        kept[size] = min(took, kept.get(size, took))
    ordered = sorted(kept)
    rising = np.maximum.accumulate([kept[size] for size in ordered])
    return tuple(ordered), tuple(float(s) for s in rising)
