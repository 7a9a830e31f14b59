"""The definition of int8 layers: rows quantized to 8 bits."""

import numpy as np
from hypothesis import given, settings
from hypothesis import strategies as st

from headway.kernels.reference_int8 import (
    quantize_rows,
)

F32 = np.float32


def layer(rng: np.random.Generator, rows: int, inputs: int, outputs: int) -> tuple[np.ndarray, ...]:
    """x, weight, scale, bias, residual; the rows of very different sizes."""
    x = rng.normal(rng.normal(0, 2), 1, (rows, inputs)) * 10.0 ** rng.uniform(-4, 4, (rows, 1))
    return (
        x.astype(F32),
        rng.integers(-128, 128, (inputs, outputs)).astype(np.int8),
        rng.uniform(1e-3, 1e-2, outputs).astype(F32),
        rng.normal(size=outputs).astype(F32),
        rng.normal(size=(rows, outputs)).astype(F32),
    )


@settings(max_examples=50, deadline=None)
@given(rows=st.integers(1, 5), inputs=st.integers(1, 300), seed=st.integers(0, 2**32 - 1))
def test_a_number_moves_by_half_a_step_at_most(rows: int, inputs: int, seed: int) -> None:
    x = layer(np.random.default_rng(seed), rows, inputs, 1)[0]
    q, scale, zero = quantize_rows(x)
    back = scale.astype(np.float64) * (q.astype(np.int64) - zero)
    # Half a step; at the range's ends the zero point's own rounding can take another half.
    inside = (q > 0) & (q < 255)
    assert np.all(np.abs(back - x)[inside] <= np.broadcast_to(scale, x.shape)[inside] * 0.5001)
    assert np.all(np.abs(back - x) <= scale * 1.0001)
