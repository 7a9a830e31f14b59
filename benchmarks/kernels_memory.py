"""Ten million calls of the CPU kernels on random shapes, bad input among them: the process must not grow.

    python -m benchmarks.kernels_memory [--calls 10000000]

Every operator in float32, the int8 and bfloat16 layers, and one call in fifty refused. Writes the curves of memory, resident and allocated,
as JSON and as a figure to `benchmarks/results/`; fails where either is more than 4 MB above what it was after a tenth of the
calls. Linux with glibc.
"""

import argparse
import contextlib
import ctypes
import random
import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from pathlib import Path

import ml_dtypes
import numpy as np
import psutil
from rich.console import Console
from rich.progress import track

from headway.exporter.bench.measure import machine
from headway.kernels import cpu

from .results import save

MOST_GROWTH_MB = 4.0
SHAPES = 40
F32 = np.float32
Call = Callable[[], object]


def bound(
    op_type: str,
    cases: Sequence[Sequence[np.ndarray]],
    outputs: int = 1,
    constants: Sequence[int] = (),
    **attributes: object,
) -> list[Call]:
    """One call for each case, all of one session, inputs bound; outputs are the runtime's to make."""
    dtypes = [cases[0][0].dtype, np.int32][:outputs]
    opened = cpu.open_session(op_type, cases[0], outputs=dtypes, constants=constants, **attributes)
    calls: list[Call] = []
    for inputs in cases:
        binding = opened.session.io_binding()
        for i, array in enumerate(inputs):
            if i not in constants:
                binding.bind_cpu_input(f"x{i}", array)
        for i in range(outputs):
            binding.bind_output(f"y{i}", "cpu")
        calls.append(lambda binding=binding: opened.session.run_with_iobinding(binding))
    return calls


def ends_of(rng: np.random.Generator, tokens: int) -> np.ndarray:
    inner = np.sort(rng.integers(0, tokens + 1, rng.integers(0, 3)))
    return np.concatenate([[0], inner, [tokens]]).astype(np.int32)


def good_calls(rng: np.random.Generator) -> Iterator[Call]:
    """Small shapes of every operator: what is left behind by a call does not depend on how much it computes."""

    def some(*shape: int) -> np.ndarray:
        return rng.standard_normal(shape).astype(F32)

    def sizes(most: int) -> list[int]:
        return [int(n) for n in rng.integers(1, most, SHAPES)]

    yield from bound("MaskedSoftmax", [(some(int(rng.integers(1, 5)), n), some(1, n)) for n in sizes(60)])
    yield from bound("PackedAttention", [(*some(3, n, 16), ends_of(rng, n)) for n in sizes(30)], heads=2)
    padded = [(*some(3, 2, n, 16), rng.integers(0, n + 1, 2).astype(np.int32)) for n in sizes(15)]
    yield from bound("PaddedAttention", padded, heads=2)
    yield from bound("PoolTokens", [(some(n, 8), ends_of(rng, n)) for n in sizes(30)], mode="sum")
    normed = [(*some(2, n, 8), *some(3, 8)) for n in sizes(30)]
    yield from bound("SkipLayerNormalization", normed)
    yield from bound("BiasActivation", [(x, bias) for x, *_, bias in normed], activation="gelu")
    masks = [rng.integers(0, 2, (2, n)) for n in sizes(15)]
    yield from bound("RemovePadding", [(some(*m.shape, 8), m) for m in masks], outputs=2)
    yield from bound("RestorePadding", [(some(int(m.sum()), 8), m) for m in masks])
    weight, scale, bias = rng.integers(-128, 128, (24, 24)).astype(np.int8), np.full(24, 0.01, F32), some(24)
    layer = (weight, scale, bias)
    yield from bound("QuantizedLinear", [(some(n, 24), *layer) for n in sizes(20)], constants=(1, 2, 3))
    both = range(1, 7)
    half = weight.astype(ml_dtypes.bfloat16)
    yield from bound("Bfloat16Linear", [(some(n, 24), half, bias) for n in sizes(20)], constants=(1, 2))
    halves = (half, bias, half, bias)
    yield from bound("Bfloat16FeedForward", [(some(n, 24), *halves) for n in sizes(20)], constants=range(1, 5))
    yield from bound("QuantizedFeedForward", [(some(n, 24), *layer, *layer) for n in sizes(20)], constants=both)


def refused_calls(rng: np.random.Generator) -> Iterator[Call]:
    """Make calls that end in a status."""
    x = rng.standard_normal((20, 16)).astype(F32)
    good, bad = np.array([0, 20], np.int32), [np.array(e, np.int32) for e in ([0, 9, 3, 20], [1, 20], [0, 21], [0])]
    yield from bound("PackedAttention", [(x, x, x, e) for e in bad], heads=2)
    yield from bound("PackedAttention", [(x, x[:7], x, good), (x, x, x[:, :8], good)], heads=2)
    yield from bound("MaskedSoftmax", [(x, x[:3]), (x, x[:, :5])])
    weight = rng.standard_normal((16, 9)).astype(ml_dtypes.bfloat16)
    yield from bound("Bfloat16Linear", [(x[:, :9], weight), (x[:, :3], weight)], constants=(1,))
    yield from bound("RestorePadding", [(x, np.ones((2, 3), np.int64))])


def resident_mb() -> float:
    """Without pages of files, which come and go as the kernel sees fit."""
    found = psutil.Process().memory_info()
    return (found.rss - found.shared) / 1e6


class Mallinfo2(ctypes.Structure):
    """What glibc's `mallinfo2` returns: sizes in bytes."""

    NAMES = ("arena", "ordblks", "smblks", "hblks", "hblkhd", "usmblks", "fsmblks", "uordblks", "fordblks", "keepcost")
    _fields_ = tuple((name, ctypes.c_size_t) for name in NAMES)


def allocated_mb() -> float:
    """Return what is allocated and not freed, exactly, of the main heap and of mapped pieces: all there is with one thread."""
    ask = ctypes.CDLL(None).mallinfo2
    ask.restype = Mallinfo2
    found = ask()
    return (found.uordblks + found.hblkhd) / 1e6


def plot(calls: Sequence[int], memory: Mapping[str, Sequence[float]], path: Path) -> None:
    import matplotlib

    matplotlib.use("Agg")
    from matplotlib import pyplot

    figure, axes = pyplot.subplots(figsize=(6, 3))
    for name, values in memory.items():
        axes.plot(np.array(calls) / 1e6, values, label=name)
    axes.set(xlabel="million calls", ylabel="MB", ylim=(0, None))
    axes.legend()
    figure.tight_layout()
    figure.savefig(path, dpi=120)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--calls", type=int, default=10_000_000)
    arguments = parser.parse_args()
    rng, choose = np.random.default_rng(0), random.Random(0)
    good, refused = list(good_calls(rng)), list(refused_calls(rng))
    failures, counts, resident, allocated = 0, [0], [resident_mb()], [allocated_mb()]
    began, step = time.perf_counter(), max(1, arguments.calls // 100)
    for _ in track(range(100), "calls"):
        for call in choose.choices(good, k=step):
            call()
        for call in choose.choices(refused, k=step // 50):
            with contextlib.suppress(Exception):  # the runtime's own exception types share no base
                call()
                raise SystemExit("a bad call was answered")
            failures += 1
        counts.append(counts[-1] + step + step // 50)
        resident.append(resident_mb())
        allocated.append(allocated_mb())
    growth = max(resident[-1] - resident[10], allocated[-1] - allocated[10])
    content = {
        "calls": counts[-1],
        "refused": failures,
        "seconds": time.perf_counter() - began,
        "growth_mb": growth,
        "after": counts,
        "resident_mb": resident,
        "allocated_mb": allocated,
        "machine": machine(),
    }
    path = save("kernels-memory", content)
    plot(counts, {"resident": resident, "allocated": allocated}, path.with_suffix(".png"))
    Console().print(f"{counts[-1]:,} calls, {failures:,} refused: {growth:+.2f} MB since the first tenth", path)
    if growth > MOST_GROWTH_MB:
        raise SystemExit(1)


if __name__ == "__main__":
    main()
