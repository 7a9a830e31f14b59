"""Quantize weights: choose scales, and round each weight up or down. Imports torch.

A weight matrix `W [in, out]` becomes `q · scale` with integers `q` in ±(2^(bits-1) - 1) (symmetric, zero point 0). There is one
scale per output channel, or per block of inputs of an output channel.
"""

from collections.abc import Callable
from dataclasses import dataclass

import numpy as np
import torch

from ..errors import UsageError


@dataclass(frozen=True)
class QuantizedMatrix:
    """Weights `q` int8 `[in, out]` and `scale` float32 `[out]`, or `[in / block, out]` where the inputs are divided into blocks.

    `zero`: int8 of the shape of `scale`, the integers that stand for 0; None where that is 0, as in all that is quantized here.
    """

    q: np.ndarray
    scale: np.ndarray
    bits: int = 8
    zero: np.ndarray | None = None

    @property
    def block(self) -> int | None:
        """Return the number of inputs per scale; None where a scale holds for all inputs."""
        return None if self.scale.ndim == 1 else self.q.shape[0] // self.scale.shape[0]

    def dequantized(self) -> np.ndarray:
        """Return the weights in float32, `[in, out]`."""
        rows = self.q.shape[0]
        whole = self.q.astype(np.float32)
        if self.zero is not None:
            whole -= spread(self.zero, rows).astype(np.float32)
        return whole * spread(self.scale, rows)


def spread(scale: np.ndarray, rows: int) -> np.ndarray:
    """Return a scale for every row: `[1, out]` or `[in, out]`."""
    return scale[None] if scale.ndim == 1 else np.repeat(scale, rows // scale.shape[0], axis=0)


DAMPING = 1e-2
"""Added to the diagonal of the second moment, as a fraction of its mean (GPTQ uses the same)."""

_COLUMNS_AT_ONCE = 128


def largest(bits: int) -> int:
    """Return the largest integer of a symmetric range."""
    return 2 ** (bits - 1) - 1


def scales(weight: np.ndarray, *, bits: int = 8, block: int | None = None) -> np.ndarray:
    """Return float32 scales of `weight [in, out]`: `[out]`, or `[in / block, out]`.

    At 8 bits the largest magnitude sets a scale; below, the least squared error does. A channel of zeros gets scale 1, so that
    nothing is divided by 0. UsageError where `block` does not divide the inputs.
    """
    rows, columns = weight.shape
    if block is not None and rows % block:
        raise UsageError(f"blocks of {block} do not divide {rows} inputs")
    groups = weight.reshape(1 if block is None else rows // block, -1, columns)
    top = np.abs(groups).max(axis=1)
    scale = top / largest(bits)
    if bits < 8:
        least = np.full(scale.shape, np.inf)
        for share in np.linspace(0.7, 1.0, 16):
            candidate = np.where(top > 0, top, 1.0) * share / largest(bits)
            error = np.square(_rounded(groups, candidate[:, None], bits) * candidate[:, None] - groups).sum(axis=1)
            scale, least = np.where(error < least, candidate, scale), np.minimum(error, least)
    scale = np.where(scale >= np.finfo(np.float32).tiny, scale, 1.0).astype(np.float32)
    return scale[0] if block is None else scale


def nearest(weight: np.ndarray, *, bits: int = 8, block: int | None = None) -> QuantizedMatrix:
    """Round each weight to the nearest integer; its error is at most half its scale where nothing is clipped."""
    scale = scales(weight, bits=bits, block=block)
    return QuantizedMatrix(_rounded(weight, spread(scale, len(weight)), bits).astype(np.int8), scale, bits)


def _rounded(weight: np.ndarray, scale: np.ndarray, bits: int) -> np.ndarray:
    return np.clip(np.rint(weight / scale), -largest(bits), largest(bits))


def gptq(weight: np.ndarray, moment: np.ndarray, *, bits: int = 8, block: int | None = None) -> QuantizedMatrix:
    """Round input by input, and adjust the inputs that are not rounded yet to compensate each error.

    `moment [in, in]` is the second moment of the inputs; `tr((W - Ŵ)ᵀ moment (W - Ŵ))` is minimized. Inputs of large energy
    come first. Source: Frantar et al. 2022 (arXiv 2210.17323), algorithm 1 and section 3.3 (order, damping).
    """
    scale = scales(weight, bits=bits, block=block)
    h = torch.from_numpy(moment).double()
    order = torch.argsort(h.diagonal(), descending=True, stable=True)
    h = h[order][:, order]
    h = h + (DAMPING * h.diagonal().mean()).clamp_min(1e-12) * torch.eye(len(h), dtype=torch.float64)
    factor = torch.linalg.cholesky(torch.cholesky_inverse(torch.linalg.cholesky(h)), upper=True)
    w = torch.from_numpy(np.ascontiguousarray(weight)).double()[order]
    steps = torch.from_numpy(np.broadcast_to(spread(scale, len(weight)), weight.shape).copy())
    steps = steps.double()[order]
    q = torch.zeros_like(w)
    limit = largest(bits)
    for start in range(0, len(w), _COLUMNS_AT_ONCE):
        stop = min(start + _COLUMNS_AT_ONCE, len(w))
        rows, errors = w[start:stop].clone(), torch.zeros(stop - start, w.shape[1], dtype=torch.float64)
        for i in range(stop - start):
            at = start + i
            q[at] = (rows[i] / steps[at]).round().clamp(-limit, limit)
            errors[i] = (rows[i] - q[at] * steps[at]) / factor[at, at]
            rows[i + 1 :] -= factor[at, at + 1 : stop, None] * errors[i]
        w[stop:] -= factor[start:stop, stop:].T @ errors
    back = torch.empty_like(q)
    back[order] = q
    return QuantizedMatrix(back.to(torch.int8).numpy(), scale, bits)


def bias_shift(weight: np.ndarray, matrix: QuantizedMatrix, mean: np.ndarray) -> np.ndarray:
    """Return what quantization takes from the mean output, to be added to the bias: float32 `[out]`.

    `mean [in]` is the mean of the inputs.

    Source: Nagel et al. 2019 (arXiv 1906.04721), section 4.2.
    """
    lost = weight.astype(np.float64) - matrix.dequantized()
    return (mean.astype(np.float64) @ lost).astype(np.float32)


def migration(low: np.ndarray, high: np.ndarray, moment: np.ndarray, weights: list[np.ndarray]) -> np.ndarray:
    """Return divisors of activation channels, float32 `[in]`, that minimize the error of quantizing activations and weights.

    The activations are quantized to one range. `low`, `high [in]` are the ranges of the channels, `moment [in, in]` is their
    second moment, `weights` are all weight matrices `[in, out]` that read the activation. Divisors are powers (0, 1/8 … 1) of
    the channels' largest magnitude, with mean logarithm 0. For each power the expected squared error of the outputs is computed
    (rounding errors uniform and independent), and the best is taken. Where no power helps, all divisors are 1. Source of the
    idea: SmoothQuant (arXiv 2211.10438), section 4.
    """
    energy = np.maximum(np.diag(moment).astype(np.float64), 0)
    rows = np.sum([np.square(w).sum(axis=1) for w in weights], axis=0)

    def error(divisor: np.ndarray) -> float:
        span = np.maximum((high / divisor).max(), 0) - np.minimum((low / divisor).min(), 0)
        of_activations = (span / (2**8 - 1)) ** 2 * (rows * divisor**2).sum()
        of_weights = sum(
            np.square(np.abs(w * divisor[:, None]).max(axis=0) / largest(8)).sum() * (energy / divisor**2).sum()
            for w in weights
        )
        return float(of_activations + of_weights)

    return _best_power(low, high, error)


def migration_per_token(low: np.ndarray, high: np.ndarray, sample: np.ndarray, weights: list[np.ndarray]) -> np.ndarray:
    """Return divisors as `migration` does, for activations quantized per token: extremes of a channel say little about those.

    For each power the tokens of `sample [tokens, in]` and the weights are quantized and the error is measured, relative to the
    output of each token. So a token with large activations (often the first one) counts like any other.
    """
    values = sample.astype(np.float64)
    energies = [np.square(values @ w).sum(axis=1) for w in weights]

    def error(divisor: np.ndarray) -> float:
        divided = values / divisor
        error_in = _quantized_tokens(divided) - divided
        total = 0.0
        for weight, energy in zip(weights, energies, strict=True):
            scaled = weight * divisor[:, None]
            lost = nearest(scaled.astype(np.float32)).dequantized() - scaled
            squared = np.square(error_in @ scaled).sum(axis=1) + np.square(divided @ lost).sum(axis=1)
            total += float(np.divide(squared, energy, out=np.zeros_like(squared), where=energy > 0).mean())
        return total

    return _best_power(low, high, error)


def _best_power(low: np.ndarray, high: np.ndarray, error: Callable[[np.ndarray], float]) -> np.ndarray:
    """Return the power of the channels' largest magnitudes with the least error; a higher power must be a thousandth better."""
    top = np.maximum(np.abs(low), np.abs(high)).astype(np.float64)
    top = np.maximum(top, 1e-3 * max(top.max(), 1e-30))
    best, least = np.ones_like(top), np.inf
    for power in np.arange(9) / 8:
        divisor = top**power
        divisor /= np.exp(np.log(divisor).mean())
        power_error = error(divisor)
        if power_error < 0.999 * least:
            best, least = divisor, power_error
    return best.astype(np.float32)


def _quantized_tokens(x: np.ndarray) -> np.ndarray:
    """Quantize each row of `x [tokens, in]` to 256 levels between its own minimum and maximum, 0 among them."""
    low, high = np.minimum(x.min(axis=1, keepdims=True), 0), np.maximum(x.max(axis=1, keepdims=True), 0)
    step = np.where(high > low, high - low, 255.0) / 255
    zero = np.rint(-low / step)
    return (np.clip(np.rint(x / step) + zero, 0, 255) - zero) * step
