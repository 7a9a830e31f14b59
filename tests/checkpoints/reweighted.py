"""Reweighted proximal pruning: after each step of Adam, a proximal step of a reweighted L1 penalty shrinks weights, small ones most.

The penalty of a weight is `STRENGTH |w| / (|w'| + EPSILON)`, where `w'` is the weight before the step. Its proximal step is soft
thresholding, which leaves zeros. That of the penalty's quadratic bound divides each weight instead, and comes near to zero alone.
Source: Reweighted Proximal Pruning (arXiv 1909.12486).
"""

from pathlib import Path
from typing import Any

import torch

from tests.support import checkpoints

EPSILON, STRENGTH = 1e-3, 4e-4
_STEPS = 8
_LEARNING = 1e-5


def make_reweighted(directory: Path, *, bounded: bool, strength: float = STRENGTH, **changes: Any) -> Any:
    """Write a classifier pruned so while it learns labels; return its module. `bounded`: by the quadratic bound."""
    model = checkpoints.base(directory, task="text-classification", **changes)
    pruned = [p for n, p in model.named_parameters() if ".layer." in n and p.ndim == 2]
    optimizer = torch.optim.Adam(model.parameters(), lr=_LEARNING)
    draw = torch.Generator().manual_seed(0)
    for _ in range(_STEPS):
        ids = torch.randint(5, 290, (4, 8), generator=draw)
        loss = model(input_ids=ids, labels=torch.randint(0, 2, (4,), generator=draw)).loss
        optimizer.zero_grad()
        loss.backward()
        penalties = [1 / (p.detach().abs() + EPSILON) for p in pruned]
        optimizer.step()
        with torch.no_grad():
            for weight, penalty in zip(pruned, penalties, strict=True):
                size, step = weight.abs(), strength * penalty
                left = size / (1 + step / size.clamp_min(1e-30)) if bounded else (size - step).clamp_min(0)
                weight.copy_(weight.sign() * left)
    checkpoints.save(directory, model.eval().state_dict())
    return model
