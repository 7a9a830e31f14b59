"""Compute pruning masks from what pruning tools save instead of them: scores and gates. Tensors are torch tensors."""

import math
from typing import Any

METHODS = ("topK", "threshold", "sigmoied_threshold", "magnitude", "l0")
"""Names of the methods of movement pruning, as its configs spell them."""

_LOW, _HIGH = -0.1, 1.1
"""The interval to which a hard-concrete gate is stretched before it is clipped to [0, 1] (Louizos et al. 2018)."""

_CONCRETE_SLOPE = 0.8
"""FLOP's factor inside the sigmoid of a gate at evaluation (Wang et al. 2020, published code)."""


def mask_of(method: str, scores: Any, threshold: float | None, least: float = 0.005) -> Any:
    """Return the mask, float of the scores' shape, at evaluation. `scores` are the weights themselves where magnitudes count.

    `threshold`: the part that `topK` and `magnitude` keep, or the least score that is kept; `l0` has none. `least`: the part that
    is kept at all costs. Source: movement pruning, Sanh et al. 2020.
    """
    import torch

    if method == "l0":
        return stretched_gate(scores)
    assert threshold is not None
    if method in ("topK", "magnitude"):
        order = (scores.abs() if method == "magnitude" else scores).flatten().argsort(descending=True, stable=True)
        mask = torch.zeros(scores.numel())
        mask[order[: int(threshold * scores.numel())]] = 1
        return mask.reshape(scores.shape)
    mask = (torch.sigmoid(scores) if method == "sigmoied_threshold" else scores) > threshold
    fewest = int(least * scores.numel()) + 1 if least else 0
    if int(mask.sum()) < fewest:
        mask = scores > scores.flatten().kthvalue(max(scores.numel() - fewest, 1)).values
    return mask.float()


def stretched_gate(log_alpha: Any) -> Any:
    """Return hard-concrete gates in [0, 1] at evaluation: a sigmoid, stretched and clipped. Source: Louizos et al. 2018."""
    import torch

    return (torch.sigmoid(log_alpha.float()) * (_HIGH - _LOW) + _LOW).clamp(0, 1)


def soft_gate(log_alpha: Any) -> Any:
    """Return FLOP's gates at evaluation: as many are 0 as are expected to be, the others a sigmoid. Source: Wang et al. 2020."""
    import torch

    expected = float(torch.sigmoid(log_alpha.float() - math.log(-_LOW / _HIGH)).sum())
    gates = torch.sigmoid(log_alpha.float() * _CONCRETE_SLOPE)
    gates[gates.topk(round(log_alpha.numel() - expected), largest=False).indices] = 0
    return gates


def two_of_four(scores: Any) -> Any:
    """Return a mask `[out, in]` that keeps in each four adjacent inputs the two of the highest scores."""
    import torch

    fours = scores.reshape(len(scores), -1, 4)
    kept = fours.topk(2, dim=2).indices
    return torch.zeros_like(fours).scatter(2, kept, 1.0).reshape(scores.shape)


def one_of_patterns(scores: Any, patterns: Any) -> Any:
    """Return a mask `[out, in]` of the pattern with the highest score for each four adjacent outputs of an input.

    `scores` are `[in, out / 4, patterns]`, and `patterns [patterns, 4]` holds ones and zeros.
    """
    chosen = patterns[scores.argmax(dim=-1)]
    return chosen.reshape(len(scores), -1).t()
