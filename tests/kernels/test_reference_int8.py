"""The definition of int8 layers: rows quantized to 8 bits."""

import numpy as np
from hypothesis import given, settings
from hypothesis import strategies as st

from headway.kernels.reference_int8 import quantize_rows

from tests.support.int8_layers import layer

F32 = np.float32


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
