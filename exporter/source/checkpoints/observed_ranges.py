"""Tell to which integers torch's fake quantization rounds: a state dict holds scales and what was observed, and no range of integers."""

from collections.abc import Callable, Iterator
from typing import Any

_BITS = range(8, 1, -1)
_LEAST_TOLD = 6.2e-5
"""Scales up to here may be the least that torch's fused kernel gives: they say nothing of the range."""
_NEAR = 3e-6
"""How near an expected scale is: two ranges that are nearest to each other differ by 15 millionths."""


def integer_range(scale: Any, zero: Any, low: Any, high: Any) -> tuple[int, int] | None:
    """Return the least and the greatest integer by which `scale` and `zero` follow from what was observed; None where none do.

    `low` and `high` are the least and the greatest weight observed. All are torch tensors of one number, or one for each row.
    """
    fractions = zero.is_floating_point()
    scale, zero, low, high = (tensor.detach().double().reshape(-1) for tensor in (scale, zero, low, high))
    told = (high > low) & ((scale > _LEAST_TOLD) | fractions)
    if not told.any():
        return (0, 255) if fractions else _that_holds(scale, zero, low, high)
    scale, zero, low, high = (tensor[told] for tensor in (scale, zero, low, high))
    schemes = (_by_row,) if fractions else (_symmetric, _symmetric_fused, _affine)
    for least, greatest in _ranges():
        for scheme in schemes:
            expected, at = scheme(low, high, least, greatest)
            if ((expected - scale).abs() <= _NEAR * scale).all() and ((at - zero).abs() <= 1).all():
                return least, greatest
    return None


def _that_holds(scale: Any, zero: Any, low: Any, high: Any) -> tuple[int, int] | None:
    """Return a range of 8 bits that all codes of what was observed lie in, so that nothing is cut off; None where none does."""
    codes = [(value / scale).round() + zero for value in (low, high)]
    for least, greatest in ((-128, 127), (0, 255)):
        if all(((c >= least) & (c <= greatest)).all() for c in (*codes, zero)):
            return least, greatest
    return None


def _ranges() -> Iterator[tuple[int, int]]:
    for bits in _BITS:
        half = 2 ** (bits - 1)
        yield from ((-half, half - 1), (1 - half, half - 1), (0, 2 * half - 1))


_Scheme = Callable[[Any, Any, int, int], tuple[Any, Any]]
"""Scales and zero points of what was observed, for the integers of a range."""


def _symmetric(low: Any, high: Any, least: int, greatest: int) -> tuple[Any, Any]:
    """Compute scales as torch's observers do."""
    import torch

    scale = torch.maximum(-low.clamp(max=0), high.clamp(min=0)) * 2 / (greatest - least)
    return scale, torch.full_like(scale, (least + greatest + 1) // 2)


def _symmetric_fused(low: Any, high: Any, least: int, greatest: int) -> tuple[Any, Any]:
    """Compute scales as torch's fused kernel does: the two sides have 128 and 127 steps, and rows of one sign are not symmetric."""
    import torch

    half, steps = (greatest - least) // 2, greatest - least
    scale = torch.maximum(-low / (half + 1), high / half) * (2 * half + 1) / steps
    middle = torch.full_like(scale, (least + greatest + 1) // 2)
    one_sided = (low >= 0) | (high <= 0)
    other, at = _affine(low, high, least, greatest)
    return torch.where(one_sided, other, scale), torch.where(one_sided, at, middle)


def _affine(low: Any, high: Any, least: int, greatest: int) -> tuple[Any, Any]:
    low, high = low.clamp(max=0), high.clamp(min=0)
    scale = (high - low) / (greatest - least)
    return scale, least - (low / scale).round()


def _by_row(low: Any, high: Any, least: int, greatest: int) -> tuple[Any, Any]:
    """Compute scales and fractional zero points as torch's observer of embeddings does: integers from 0 on are those from `low` on."""
    scale = (high - low) / (greatest - least)
    return scale, -low / scale + least
