"""Matrices as integers: scales, and which way each weight is rounded. Imports torch.

A matrix `W [in, out]` becomes `q · scale` with whole numbers `q` in ±(2^(bits-1) - 1) (symmetric, zero point 0), one scale for
each output channel, or for each block of inputs of an output channel.
"""

from collections.abc import Callable
from dataclasses import dataclass

import numpy as np
import torch

from ..errors import UsageError


@dataclass(frozen=True)
class QuantizedMatrix:
    """`q` int8 `[in, out]`; `scale` float32 `[out]`, or `[in / block, out]` where the inputs are divided into blocks."""

    q: np.ndarray
    scale: np.ndarray
    bits: int = 8

    @property
    def block(self) -> int | None:
        return None if self.scale.ndim == 1 else self.q.shape[0] // self.scale.shape[0]

    def dequantized(self) -> np.ndarray:
        """float32 `[in, out]`."""
        return self.q.astype(np.float32) * spread(self.scale, self.q.shape[0])


def spread(scale: np.ndarray, rows: int) -> np.ndarray:
    """A scale for every row: `[1, out]` or `[in, out]`."""
    return scale[None] if scale.ndim == 1 else np.repeat(scale, rows // scale.shape[0], axis=0)


DAMPING = 1e-2
"""Added to the diagonal of the second moment, as a part of its mean (GPTQ uses the same)."""

_COLUMNS_AT_ONCE = 128


def largest(bits: int) -> int:
    """The largest whole number of a symmetric range."""
    return 2 ** (bits - 1) - 1


def scales(weight: np.ndarray, *, bits: int = 8, block: int | None = None) -> np.ndarray:
    """float32 scales of `weight [in, out]`. At 8 bits the largest magnitude sets them; below, what leaves the least squared error.

    A channel of zeros gets scale 1, so that nothing is divided by 0. UsageError where `block` does not divide the inputs.
    """
    rows, columns = weight.shape
    if block is not None and rows % block:
        raise UsageError(f"blocks of {block} do not divide {rows} inputs")
    groups = weight.reshape(1 if block is None else rows // block, -1, columns)
    top = np.abs(groups).max(axis=1)
    found = top / largest(bits)
    if bits < 8:
        least = np.full(found.shape, np.inf)
        for share in np.linspace(0.7, 1.0, 16):
            tried = np.where(top > 0, top, 1.0) * share / largest(bits)
            off = np.square(_rounded(groups, tried[:, None], bits) * tried[:, None] - groups).sum(axis=1)
            found, least = np.where(off < least, tried, found), np.minimum(off, least)
    found = np.where(found >= np.finfo(np.float32).tiny, found, 1.0).astype(np.float32)
    return found[0] if block is None else found


def nearest(weight: np.ndarray, *, bits: int = 8, block: int | None = None) -> QuantizedMatrix:
    """Each weight to the nearest whole number; the error of each is at most half its scale where nothing is clipped."""
    scale = scales(weight, bits=bits, block=block)
    return QuantizedMatrix(_rounded(weight, spread(scale, len(weight)), bits).astype(np.int8), scale, bits)


def _rounded(weight: np.ndarray, scale: np.ndarray, bits: int) -> np.ndarray:
    return np.clip(np.rint(weight / scale), -largest(bits), largest(bits))


def gptq(weight: np.ndarray, moment: np.ndarray, *, bits: int = 8, block: int | None = None) -> QuantizedMatrix:
    """Input by input, each error made good by the inputs that are not rounded yet.

    `moment [in, in]` is the second moment of the inputs; `tr((W - Ŵ)ᵀ moment (W - Ŵ))` is what gets small. Inputs of much
    energy go first. Source: Frantar et al. 2022 (arXiv 2210.17323), algorithm 1 and section 3.3 (order, damping).
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
    """What rounding takes from the mean output, float32 `[out]`, to be added to the bias. `mean [in]`: of the inputs.

    Source: Nagel et al. 2019 (arXiv 1906.04721), section 4.2.
    """
    lost = weight.astype(np.float64) - matrix.dequantized()
    return (mean.astype(np.float64) @ lost).astype(np.float32)


def migration(low: np.ndarray, high: np.ndarray, moment: np.ndarray, weights: list[np.ndarray]) -> np.ndarray:
    """Divisors of a value's channels, float32 `[in]`, that leave the least error when it is rounded to one range and its matrices are.

    `low`, `high [in]`: ranges of the channels; `moment [in, in]`: their second moment; `weights`: all matrices `[in, out]`
    that read the value. Divisors are powers (0, 1/8 … 1) of the channels' largest magnitude, with mean logarithm 0; of each the
    expected squared error of the outputs is computed (rounding errors uniform and independent), and the best is taken. Where no
    power is better than none all divisors are 1. Source of the idea: SmoothQuant (arXiv 2211.10438), section 4.
    """
    energy = np.maximum(np.diag(moment).astype(np.float64), 0)
    rows = np.sum([np.square(w).sum(axis=1) for w in weights], axis=0)

    def error(divisor: np.ndarray) -> float:
        span = np.maximum((high / divisor).max(), 0) - np.minimum((low / divisor).min(), 0)
        values = (span / (2**8 - 1)) ** 2 * (rows * divisor**2).sum()
        matrices = sum(
            np.square(np.abs(w * divisor[:, None]).max(axis=0) / largest(8)).sum() * (energy / divisor**2).sum()
            for w in weights
        )
        return float(values + matrices)

    return _best_power(low, high, error)


def migration_by_token(low: np.ndarray, high: np.ndarray, sample: np.ndarray, weights: list[np.ndarray]) -> np.ndarray:
    """As `migration`, where each token is rounded to a range of its own: a channel's extremes say little of those.

    With each power the tokens of `sample [tokens, in]` and the matrices are rounded and the error is measured, relative to each
    token's own output: one with large values (a first token often has them) counts like any other.
    """
    values = sample.astype(np.float64)
    energies = [np.square(values @ w).sum(axis=1) for w in weights]

    def error(divisor: np.ndarray) -> float:
        divided = values / divisor
        off = _rounded_tokens(divided) - divided
        total = 0.0
        for weight, energy in zip(weights, energies, strict=True):
            scaled = weight * divisor[:, None]
            lost = nearest(scaled.astype(np.float32)).dequantized() - scaled
            squared = np.square(off @ scaled).sum(axis=1) + np.square(divided @ lost).sum(axis=1)
            total += float(np.divide(squared, energy, out=np.zeros_like(squared), where=energy > 0).mean())
        return total

    return _best_power(low, high, error)


def _best_power(low: np.ndarray, high: np.ndarray, error: Callable[[np.ndarray], float]) -> np.ndarray:
    """The power of the channels' largest magnitudes with the least error; a higher one has to be a thousandth better."""
    top = np.maximum(np.abs(low), np.abs(high)).astype(np.float64)
    top = np.maximum(top, 1e-3 * max(top.max(), 1e-30))
    best, least = np.ones_like(top), np.inf
    for power in np.arange(9) / 8:
        divisor = top**power
        divisor /= np.exp(np.log(divisor).mean())
        found = error(divisor)
        if found < 0.999 * least:
            best, least = divisor, found
    return best.astype(np.float32)


def _rounded_tokens(x: np.ndarray) -> np.ndarray:
    """Each row of `x [tokens, in]` to 256 levels between its own least and largest, 0 among them."""
    low, high = np.minimum(x.min(axis=1, keepdims=True), 0), np.maximum(x.max(axis=1, keepdims=True), 0)
    step = np.where(high > low, high - low, 255.0) / 255
    zero = np.rint(-low / step)
    return (np.clip(np.rint(x / step) + zero, 0, 255) - zero) * step
