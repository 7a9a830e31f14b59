"""Order the units of a site for removal and compute what each costs: optimal brain surgery on groups of inputs. Imports torch.

The cost of a set of units is what removing it adds to the second-order loss `tr(ΔWᵀ H ΔW G)` after the remaining weights were
adjusted. H is the second moment of the site's inputs, G that of the gradient at its output. Source: Hassibi & Stork 1993;
ZipLM (arXiv 2302.04089), section 3.1, for structures; the output side as in K-FAC (Martens & Grosse 2015).
"""

from dataclasses import dataclass

import numpy as np
import torch

_LAST = 1e300
"""The cost of what cannot be told, as of evidence with NaN: it goes last."""
DAMPING = 1e-2
"""Added to the diagonal of H, as a fraction of its mean."""


@dataclass(frozen=True)
class Removal:
    """`order [units]`: units in the order of removal; `loss [units + 1]`: the loss with 0, 1, … of them removed."""

    order: np.ndarray
    loss: np.ndarray

    def kept(self, count: int) -> list[int]:
        """Return the `count` units that are removed last, ascending."""
        return sorted(int(u) for u in self.order[len(self.order) - count :])


def removal_order(
    weight: np.ndarray,
    inputs: np.ndarray,
    mean: np.ndarray | None,
    outputs: np.ndarray,
    *,
    unit: int = 1,
    at_once: int | None = None,
) -> Removal:
    """Remove groups of `unit` neighboring inputs of `weight [n, out]` greedily; the cost of each step is exact.

    `inputs [n, n]` and `outputs [out, out]` are second moments; `mean [n]` is given where a bias can absorb a constant.
    `at_once` units are removed in one step: by default one of few, about 1 % of many.
    """
    n = weight.shape[0]
    units = n // unit
    at_once = at_once or max(1, units // 96)
    h = torch.from_numpy(inputs).double()
    noise = 1e-5 * h.diagonal().mean().clamp_min(1e-30)  # where all inputs are constant, only rounding errors remain
    if mean is not None:
        m = torch.from_numpy(mean).double()
        h = h - torch.outer(m, m)
    h = h + torch.maximum(DAMPING * h.diagonal().mean(), noise) * torch.eye(n, dtype=torch.float64)
    inverse = _inverse(h, noise)
    w = torch.from_numpy(np.array(weight)).double() @ _root(torch.from_numpy(outputs).double())
    gone = torch.zeros(units, dtype=torch.bool)
    order: list[int] = []
    loss = [0.0]
    while len(order) < units:  # in place: rows of what is gone are zero, and one on the diagonal
        step = min(at_once, units - len(order))
        scores = _scores(w, inverse, unit).nan_to_num(nan=_LAST).masked_fill(gone, torch.inf)
        picked = torch.topk(scores, step, largest=False).indices.sort().values
        columns = (picked[:, None] * unit + torch.arange(unit)).reshape(-1)
        gain = torch.linalg.solve(inverse[columns][:, columns], torch.cat([w[columns], inverse[columns]], dim=1))
        cost = float((w[columns] * gain[:, : w.shape[1]]).sum())
        loss += list(np.linspace(loss[-1], loss[-1] + max(cost, 0.0), step + 1)[1:])
        order += picked.tolist()
        across = inverse[:, columns]
        w.addmm_(across, gain[:, : w.shape[1]], alpha=-1)
        inverse.addmm_(across, gain[:, w.shape[1] :], alpha=-1)
        w[columns] = 0.0
        inverse[columns] = 0.0
        inverse[:, columns] = 0.0
        inverse.diagonal()[columns] = 1.0
        gone[picked] = True
    return Removal(np.array(order), np.array(loss))


def _inverse(h: torch.Tensor, noise: torch.Tensor) -> torch.Tensor:
    """Return the inverse of a second moment. Directions in which rounding left less than nothing count as `noise`."""
    factor, failed = torch.linalg.cholesky_ex(h)
    if not failed:
        return torch.cholesky_inverse(factor)
    values, vectors = torch.linalg.eigh(h)
    return (vectors / torch.maximum(values, noise)) @ vectors.T


def _scores(w: torch.Tensor, inverse: torch.Tensor, unit: int) -> torch.Tensor:
    """Return the cost of removing each unit alone, `[units]`."""
    if unit == 1:
        return w.square().sum(1) / inverse.diagonal()
    groups = w.unflatten(0, (-1, unit))
    count = len(groups)
    blocks = inverse.unflatten(0, (count, unit)).unflatten(2, (count, unit))
    own = torch.stack([blocks[i, :, i] for i in range(count)])
    return (groups * torch.linalg.solve(own, groups)).sum((1, 2))


def _root(moment: torch.Tensor) -> torch.Tensor:
    values, vectors = torch.linalg.eigh(moment)
    return vectors * values.clamp_min(0).sqrt()
