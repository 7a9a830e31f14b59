"""The library of CPU operators as their tests use it: on every instruction set of this processor.

It is built here where a compiler is installed and it is missing. Loaded as a pytest plugin, this module brings `isa`.
"""

import ctypes
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from hypothesis import settings

from headway.kernels import cpu
from headway.kernels.cpu import build

NAMES = (b"baseline", b"avx2", b"avx512")

if cpu.library_path() is None and build.compiler() is not None:
    build.build(Path(build.__file__).parent / build.LIBRARY)

needs_library = pytest.mark.skipif(cpu.library_path() is None, reason="no C++ compiler: kernels not built")
quick = settings(max_examples=25, deadline=None)


def library() -> ctypes.CDLL:
    """Return the library, to ask for its instruction sets and to choose one."""
    opened = ctypes.CDLL(str(cpu.library_path()))
    opened.headway_isa.restype = ctypes.c_char_p
    return opened


def available_sets() -> list[bytes]:
    """Return the instruction sets that this processor has, the best one last."""
    best = library().headway_isa(None)
    try:
        return [name for name in NAMES if library().headway_isa(name) is not None]
    finally:
        library().headway_isa(best)


SETS = available_sets() if cpu.library_path() is not None else []


@pytest.fixture(params=SETS, ids=lambda name: name.decode())
def isa(request: pytest.FixtureRequest) -> Iterator[str]:
    """Kernels made during the test use this instruction set."""
    best = library().headway_isa(None)
    library().headway_isa(request.param)
    yield request.param.decode()
    library().headway_isa(best)


def tolerance(scores: np.ndarray, dtype: Any = np.float32) -> float:
    """Return the error of weights: float32 scores of size s are known to s * 2^-24, and weights to as much of themselves."""
    peak = float(np.abs(scores[np.isfinite(scores)]).max(initial=0))
    return 2e-6 + 4e-7 * peak if dtype == np.float32 else 2e-3


def off_by(array: np.ndarray, wanted: np.ndarray) -> tuple[int, float]:
    """Return the largest difference of two integer arrays, and the fraction of elements that differ."""
    difference = np.abs(array.astype(int) - wanted.astype(int))
    return int(difference.max(initial=0)), float(np.mean(difference != 0)) if difference.size else 0.0
