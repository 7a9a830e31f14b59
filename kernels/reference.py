"""Define what the kernels compute, in float64: every implementation (CPU, Triton, TensorRT) is tested against these functions.

Scores of -inf are masked. A row whose scores are all masked, or which has none, gives zeros, never NaN. A row with a NaN or
+inf score is NaN throughout, as in torch and ONNX Runtime: an overflow upstream must stay visible. V must be finite at masked
keys. Packed sequences lie back to back without padding; sequence `s` is rows `cu_seqlens[s]` to `cu_seqlens[s + 1]`.
"""

from itertools import pairwise
from math import erf
from typing import Literal

import numpy as np
from numpy.typing import ArrayLike, DTypeLike, NDArray

Array = NDArray[np.float64]
Activation = Literal["none", "gelu", "gelu_tanh", "relu", "tanh"]


def masked_softmax(x: ArrayLike, bias: ArrayLike | None = None, scale: float = 1.0) -> Array:
    """Return softmax(scale * x + bias) over the last axis; `bias` has any shape that broadcasts to that of `x`."""
    with np.errstate(invalid="ignore", over="ignore"):
        scores = scale * np.asarray(x, np.float64)
        if bias is not None:
            scores = scores + np.asarray(bias, np.float64)
        peak = scores.max(-1, keepdims=True, initial=-np.inf)
        weights = np.exp(scores - np.where(peak == -np.inf, 0.0, peak))
        total = weights.sum(-1, keepdims=True)
        return weights / np.where(total == 0, 1.0, total)


def packed_attention(
    q: ArrayLike,
    k: ArrayLike,
    v: ArrayLike,
    cu_seqlens: ArrayLike,
    heads: int,
    scale: float,
    bias: ArrayLike | None = None,
    causal: bool = False,
) -> Array:
    """Return softmax(scale * q kᵀ + bias) v within each sequence and head, `[tokens, heads * head_dim]` in and out.

    `cu_seqlens` is `[sequences + 1]`, starts at 0, never decreases and ends at the number of tokens. `bias` is per position in
    the sequence, `[heads or 1, positions, positions]`, with at least as many positions as the longest sequence has tokens.
    With `causal`, a query sees the keys up to its own position.
    """
    q, k, v = (np.asarray(x, np.float64) for x in (q, k, v))
    out = np.zeros(v.shape)
    ends = [int(end) for end in np.asarray(cu_seqlens)]
    for start, end in pairwise(ends):
        out[start:end] = _attention(q[start:end], k[start:end], v[start:end], heads, scale, bias, causal)
    return out


def padded_attention(
    q: ArrayLike,
    k: ArrayLike,
    v: ArrayLike,
    lengths: ArrayLike,
    heads: int,
    scale: float,
    bias: ArrayLike | None = None,
    causal: bool = False,
) -> Array:
    """Compute `packed_attention` on `[batch, sequence, heads * head_dim]` with `lengths [batch]`.

    Keys from a row's length on are not seen; queries from there on give zeros.
    """
    q, k, v = (np.asarray(x, np.float64) for x in (q, k, v))
    out = np.zeros(v.shape)
    for row, length in enumerate(int(n) for n in np.asarray(lengths)):
        out[row, :length] = _attention(q[row, :length], k[row, :length], v[row, :length], heads, scale, bias, causal)
    return out


def activate(x: ArrayLike, activation: Activation) -> Array:
    """Apply GELU (by the error function or by tanh; Hendrycks & Gimpel, Gaussian Error Linear Units), ReLU, tanh, or nothing."""
    x = np.asarray(x, np.float64)
    match activation:
        case "none":
            return x
        case "gelu":
            return x * 0.5 * (1 + _erf(x / np.sqrt(2)))
        case "gelu_tanh":
            return x * 0.5 * (1 + np.tanh(np.sqrt(2 / np.pi) * (x + 0.044715 * x**3)))
        case "relu":
            return np.maximum(x, 0)
        case "tanh":
            return np.tanh(x)
    raise ValueError(f"no activation {activation!r}")


def skip_layer_normalization(
    x: ArrayLike,
    skip: ArrayLike | None,
    gamma: ArrayLike,
    beta: ArrayLike | None = None,
    bias: ArrayLike | None = None,
    epsilon: float = 1e-5,
) -> tuple[Array, Array]:
    """Return the layer norm of x + bias + skip over the last axis, and that sum; None is left out.

    `x` and `skip` are `[..., width]`, the others `[width]`. Source: Ba et al. 2016 (arXiv 1607.06450), equation 4.
    """
    total = np.asarray(x, np.float64)
    for added in (bias, skip):
        if added is not None:
            total = total + np.asarray(added, np.float64)
    off = total - total.mean(-1, keepdims=True)
    y = off / np.sqrt(np.square(off).mean(-1, keepdims=True) + epsilon) * np.asarray(gamma, np.float64)
    return y + (0.0 if beta is None else np.asarray(beta, np.float64)), total


def quantize(x: ArrayLike, scale: float, zero_point: int = 0, dtype: DTypeLike = np.uint8) -> NDArray:
    """Return round(x / scale) + zero_point, halves to even, saturated: `QuantizeLinear` of ONNX."""
    limits = np.iinfo(np.dtype(dtype))
    rounded = np.rint(np.asarray(x, np.float64) / scale) + zero_point
    return np.clip(rounded, limits.min, limits.max).astype(dtype)


def dequantize(x: ArrayLike, scale: float, zero_point: int = 0) -> Array:
    """Return (x - zero_point) * scale: `DequantizeLinear` of ONNX.

    The quantized form of a kernel is `quantize(kernel(dequantize(input), ...), ...)` in one pass.
    """
    return (np.asarray(x, np.float64) - zero_point) * scale


def _attention(q: Array, k: Array, v: Array, heads: int, scale: float, bias: ArrayLike | None, causal: bool) -> Array:
    """Return the attention of one sequence, `[length, heads * head_dim]`."""
    length = len(q)
    by_head = [x.reshape(length, heads, x.shape[-1] // heads).swapaxes(0, 1) for x in (q, k, v)]
    added = np.zeros((1, length, length))
    if bias is not None:
        added = added + np.asarray(bias, np.float64)[:, :length, :length]
    if causal:
        added = added + np.triu(np.full((length, length), -np.inf), 1)
    with np.errstate(invalid="ignore", over="ignore"):
        weights = masked_softmax(by_head[0] @ by_head[1].swapaxes(1, 2), added, scale)
        return (weights @ by_head[2]).swapaxes(0, 1).reshape(v.shape)


def _erf(x: Array) -> Array:
    return np.array([erf(number) for number in x.ravel()], np.float64).reshape(x.shape)
