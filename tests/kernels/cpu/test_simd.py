"""The exponential of the vector code, against float64."""

import ctypes

import numpy as np
import pytest

from tests.support.cpu_kernels import library, needs_library

pytestmark = needs_library


def exp2(x: np.ndarray) -> np.ndarray:
    y = np.empty_like(x)
    pointer = ctypes.POINTER(ctypes.c_float)
    library().headway_exp2(x.ctypes.data_as(pointer), y.ctypes.data_as(pointer), ctypes.c_int64(x.size))
    return y


def ulps(x: np.ndarray) -> float:
    exact = np.exp2(x.astype(np.float64))
    return float((np.abs(exp2(x) - exact) / np.spacing(exact.astype(np.float32))).max())


def test_exponential_is_within_two_ulp(isa: str) -> None:
    assert ulps(np.linspace(-126, 127, 1_000_001).astype(np.float32)) < 2
    assert ulps(np.concatenate([s * np.logspace(-40, 0, 10_001) for s in (1, -1)]).astype(np.float32)) < 2
    special = np.array([0, -np.inf, np.nan, -127, -1e30], np.float32)
    np.testing.assert_array_equal(exp2(special), np.array([1, 0, np.nan, 0, 0], np.float32))


@pytest.mark.slow
def test_exponential_at_every_float(isa: str) -> None:
    for first in range(0, np.float32(126).view(np.int32) + 1, 1 << 22):
        x = np.arange(first, min(first + (1 << 22), np.float32(126).view(np.int32) + 1), dtype=np.int32).view(
            np.float32
        )
        assert ulps(x) < 2
        assert ulps(-x) < 2
