"""Masked softmax in Triton's CPU interpreter against its float64 definition: tiny shapes, at some hundred rows per second."""

from collections.abc import Callable
from typing import Any

import numpy as np
from hypothesis import given
from hypothesis import strategies as st

from headway.kernels import reference

import triton_worker as worker
from tests.support.triton_bounds import few, rounded, softmax_bound

Run = Callable[..., Any]


@few
@given(
    st.integers(0, 2**31), st.lists(st.integers(1, 4), max_size=3), st.integers(1, 40), st.sampled_from(["float16", "bfloat16", "float32"]),
    st.sampled_from([0.0, 0.125, 1.0, 1e4]), st.sampled_from(["none", "padding", "masked rows", "whole"]), st.sampled_from([1, 4]),
)  # fmt: skip
def test_softmax(
    interpreted: Run, seed: int, leading: list[int], columns: int, dtype: str, scale: float, kind: str, rows: int
) -> None:
    rng = np.random.default_rng(seed)
    x = rounded(rng.normal(size=(*leading, columns)), dtype)
    bias = None
    if kind != "none":
        shape = x.shape if kind == "whole" else (*(1 if rng.random() < 0.5 else n for n in leading), columns)
        bias = rounded(rng.normal(size=shape), dtype)
        bias[..., rng.integers(columns) :] = 0 if kind == "whole" else -np.inf
        if kind == "masked rows":
            bias[..., :] = np.where(rng.random(shape[:-1])[..., None] < 0.5, -np.inf, bias)
    scale = float(np.float32(scale))
    got = interpreted(worker.softmax, x, bias, scale, dtype, rows)
    want = reference.masked_softmax(x, bias, scale)
    assert got.shape == want.shape
    np.testing.assert_allclose(got, want, rtol=0, atol=softmax_bound(x, bias, scale, dtype))
    assert (got[want == 0] == 0).all()


def test_softmax_of_infinities_and_denormals(interpreted: Run) -> None:
    x = np.random.default_rng(0).normal(size=(6, 21)).astype(np.float32)
    x[0, 3], x[1, 20], x[2], x[3, :10] = np.inf, np.nan, -np.inf, -np.inf
    x[4], x[5] = 1e-45, np.float32(3e38)
    got, want = interpreted(worker.softmax, x, None, 1.0, "float32", 4), reference.masked_softmax(x)
    np.testing.assert_allclose(got, want, rtol=1e-6, atol=1e-7)
    assert np.isnan(got[:2]).all()
    assert (got[2] == 0).all()


@few
@given(st.integers(0, 2**31), st.integers(9, 45), st.booleans(), st.sampled_from([1.0, 1e4]))
def test_softmax_in_pieces(interpreted: Run, seed: int, columns: int, masked: bool, scale: float) -> None:
    rng = np.random.default_rng(seed)
    x = rng.normal(size=(2, 3, columns)).astype(np.float32)
    bias = np.where(rng.random((2, 1, columns)) < 0.7, -np.inf, 0).astype(np.float32) if masked else None
    if masked:
        bias[0] = -np.inf
    got, want = interpreted(worker.long_softmax, x, bias, scale, 8), reference.masked_softmax(x, bias, scale)
    np.testing.assert_allclose(got, want, rtol=0, atol=softmax_bound(x, bias, scale, "float32"))
