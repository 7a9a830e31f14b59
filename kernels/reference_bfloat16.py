"""Define what the bfloat16 kernels compute: weights rounded to bfloat16, sums in float32, and rows rounded where processors need it.

Two things are left to the processor, and with them the last bits of a sum: the order in which products are added, and that AMX and
AVX-512 BF16 take denormals for zero.
"""

import numpy as np
from numpy.typing import ArrayLike, NDArray

from .reference import Activation, Array, activate


def round_bfloat16(x: ArrayLike) -> NDArray[np.float32]:
    """Round float32 numbers to the nearest bfloat16, halves to even, and return them as float32; NaN stays NaN."""
    x = np.asarray(x, np.float32)
    bits = x.view(np.uint32).astype(np.uint64)
    rounded = ((bits + 0x7FFF + (bits >> 16 & 1)) & 0xFFFF0000).astype(np.uint32).view(np.float32)
    return np.where(np.isnan(x), np.float32(np.nan), rounded)


def bfloat16_linear(
    x: ArrayLike,
    weight: ArrayLike,
    bias: ArrayLike | None = None,
    residual: ArrayLike | None = None,
    activation: Activation = "none",
    *,
    rounded: bool,
) -> Array:
    """Return act(x weight + bias) + residual in float64, for `x [..., K]` and `weight [K, N]`, which is rounded to bfloat16.

    `rounded`: x is rounded too, as where the processor multiplies bfloat16. `bias [N]`, `residual [..., N]`.
    """
    rows = np.asarray(round_bfloat16(x) if rounded else np.asarray(x, np.float32), np.float64)
    with np.errstate(invalid="ignore", over="ignore"):
        y: Array = rows @ round_bfloat16(np.asarray(weight, np.float32)).astype(np.float64)
        if bias is not None:
            y = y + np.asarray(bias, np.float64)
        y = activate(y, activation)
        return y if residual is None else y + np.asarray(residual, np.float64)


def bfloat16_feed_forward(
    x: ArrayLike,
    weight_up: ArrayLike,
    bias_up: ArrayLike,
    weight_down: ArrayLike,
    bias_down: ArrayLike,
    residual: ArrayLike | None = None,
    activation: Activation = "gelu",
    *,
    rounded: bool,
) -> Array:
    """Return two layers with the activation between them; the first one's output is rounded as its input is."""
    hidden = bfloat16_linear(x, weight_up, bias_up, None, activation, rounded=rounded)
    return bfloat16_linear(hidden, weight_down, bias_down, residual, rounded=rounded)
