"""Define what the int8 kernels compute: activations quantized per row, weights per column, and integer matmuls.

Every token has its own range, so its result does not depend on its neighbors in the batch or on padding.
"""

import numpy as np
from numpy.typing import ArrayLike, NDArray

from .reference import Activation, Array, activate

SMALLEST_RANGE = 2.0**-100
"""Rows with a smaller range count as zeros: their scales would not be normal numbers of float32."""


def quantize_rows(x: ArrayLike) -> tuple[NDArray[np.uint8], NDArray[np.float32], NDArray[np.int32]]:
    """Quantize float32 `x [..., K]` per row: `q [..., K]`, `scale [..., 1]` and `zero [..., 1]` with x ≈ scale * (q - zero).

    lo = min(0, min x), hi = max(0, max x); scale = (hi - lo) / 255; inverse = 255 / (hi - lo). zero = -rint(lo * inverse), and
    q = rint(x * inverse) + zero, between 0 and 255. Scale and inverse are rounded to float32, as are the products with the
    inverse; halves are rounded to even. A row of zeros has scale 0, one with a NaN or an infinity has scale NaN.
    """
    x = np.asarray(x, np.float32)
    finite = np.isfinite(x).all(-1, keepdims=True)
    x = np.where(finite, x, np.float32(0))
    low = x.min(-1, keepdims=True, initial=0)
    extent = x.max(-1, keepdims=True, initial=0).astype(np.float64) - low
    flat = extent < SMALLEST_RANGE
    inverse = np.where(flat, 0, 255 / np.where(flat, 1, extent)).astype(np.float32)
    zero = (-np.rint(low * inverse)).astype(np.int32)
    q = np.minimum(np.rint(x * inverse).astype(np.int32) + zero, 255).astype(np.uint8)
    scale = np.where(finite, np.where(flat, 0, extent / 255), np.nan).astype(np.float32)
    return q, scale, zero


def quantized_matmul(x: ArrayLike, weight: ArrayLike) -> tuple[NDArray[np.int64], NDArray[np.float32]]:
    """Return the integers `sum_k (q_k - zero) weight_kn` `[..., N]` and the scales of the rows `[..., 1]`."""
    q, scale, zero = quantize_rows(x)
    return (q.astype(np.int64) - zero) @ np.asarray(weight, np.int64), scale


def quantized_linear(
    x: ArrayLike,
    weight: ArrayLike,
    scale: ArrayLike,
    bias: ArrayLike | None = None,
    residual: ArrayLike | None = None,
    activation: Activation = "none",
    factors: ArrayLike | None = None,
) -> Array:
    """Return act(row scale * scale * sum_k (q_k - zero) weight_kn + bias) + residual, where q quantizes x times `factors`.

    `x [..., K]` float32, `weight [K, N]` int8, `scale [N]` or `[1]`, `bias [N]`, `residual [..., N]`, `factors [K]` float32.
    """
    if factors is not None:
        x = np.asarray(x, np.float32) * np.asarray(factors, np.float32)
    sums, row_scale = quantized_matmul(x, weight)
    y: Array = sums.astype(np.float64) * row_scale * np.asarray(scale, np.float64)
    if bias is not None:
        y = y + np.asarray(bias, np.float64)
    y = activate(y, activation)
    return y if residual is None else y + np.asarray(residual, np.float64)


def quantized_feed_forward(
    x: ArrayLike,
    weight_up: ArrayLike,
    scale_up: ArrayLike,
    bias_up: ArrayLike,
    weight_down: ArrayLike,
    scale_down: ArrayLike,
    bias_down: ArrayLike,
    residual: ArrayLike | None = None,
    activation: Activation = "gelu",
) -> Array:
    """Return two layers with the activation between them; the first one's output is rounded to float32 and quantized per row."""
    hidden = quantized_linear(x, weight_up, scale_up, bias_up, None, activation)
    return quantized_linear(hidden, weight_down, scale_down, bias_down, residual)
