"""The definition of the bfloat16 layers, against the rounding of ml_dtypes and against float64."""

import ml_dtypes
import numpy as np
import pytest

from headway.kernels.reference import activate
from headway.kernels.reference_bfloat16 import bfloat16_feed_forward, bfloat16_linear, round_bfloat16


def test_rounding_is_that_of_every_other_library() -> None:
    rng = np.random.default_rng(0)
    x = rng.integers(0, 1 << 32, 100_000, dtype=np.uint64).astype(np.uint32).view(np.float32)
    x = np.concatenate([x, np.float32([0, -0.0, np.inf, -np.inf, 3.4e38, 1e-45, 1.00390625, 1.01171875])])
    with np.errstate(over="ignore", invalid="ignore"):
        wanted = x.astype(ml_dtypes.bfloat16).astype(np.float32)
    np.testing.assert_array_equal(round_bfloat16(x), wanted)
    assert np.isnan(round_bfloat16(np.uint32([0x7F800001, 0xFFFFFFFF]).view(np.float32))).all()


@pytest.mark.parametrize("rounded", [False, True])
def test_a_layer_is_its_parts(rounded: bool) -> None:
    rng = np.random.default_rng(1)
    x, residual = rng.normal(size=(3, 5)).astype(np.float32), rng.normal(size=(3, 4))
    weight, bias = rng.normal(size=(5, 4)).astype(np.float32), rng.normal(size=4)
    rows = round_bfloat16(x) if rounded else x
    wanted = activate(rows.astype(np.float64) @ round_bfloat16(weight).astype(np.float64) + bias, "gelu") + residual
    np.testing.assert_allclose(bfloat16_linear(x, weight, bias, residual, "gelu", rounded=rounded), wanted)
    down, bias_down = rng.normal(size=(4, 5)).astype(np.float32), rng.normal(size=5)
    hidden = bfloat16_linear(x, weight, bias, None, "relu", rounded=rounded)
    both = bfloat16_feed_forward(x, weight, bias, down, bias_down, x, "relu", rounded=rounded)
    np.testing.assert_array_equal(both, bfloat16_linear(hidden, down, bias_down, x, rounded=rounded))
