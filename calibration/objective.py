"""Define what compression should preserve: the source's own outputs, or a loss where labels are given. Imports torch.

For unlabeled text the importance of a weight is its Gauss-Newton (Fisher) information about the outputs. `probe` draws a
scalar whose gradient `g` has `E[g gᵀ]` equal to that matrix. For logits it is the log-probability of an answer drawn from the
model itself (Kunstner et al. 2019, section 2), for vectors a random projection.
"""

from collections.abc import Callable, Iterable, Mapping, Sequence

import numpy as np
import torch
import torch.nn.functional as F

from .batches import Batch

TEMPERATURE = 2.0
"""Softens the model's own answers: confident ones carry no information (K-prune, arXiv 2308.03449, uses the same value)."""


def main_outputs(names: list[str]) -> list[str]:
    """Return the outputs that count: a sentence embedding stands for the token vectors that it is pooled from."""
    return ["sentence_embedding"] if "sentence_embedding" in names else names


def per_row(outputs: Mapping[str, torch.Tensor], mask: torch.Tensor) -> dict[str, torch.Tensor]:
    """Return each output as `[rows, columns]` without padding: tokens of per-token outputs, spans over real tokens only."""
    flat = {}
    for name in main_outputs(list(outputs)):
        value = outputs[name]
        if name.endswith("_logits") and value.shape == mask.shape:  # a position is chosen: start and end of an answer
            flat[name] = value.masked_fill(~mask, -1e4)
        elif value.shape[: mask.ndim] == mask.shape and value.ndim > mask.ndim:
            flat[name] = value[mask]
        else:
            flat[name] = value.reshape(len(value), -1)
    return flat


def probe(outputs: Mapping[str, torch.Tensor], mask: torch.Tensor, generator: torch.Generator) -> torch.Tensor:
    """Return a scalar to differentiate, summed over rows. Outputs called logits are classes to choose from, others vectors."""
    total = torch.zeros(())
    for name, rows in per_row(outputs, mask).items():
        if name.endswith("logits"):
            p = torch.softmax(rows.detach() / TEMPERATURE, dim=-1)
            answer = torch.multinomial(p, 1, generator=generator)
            direction = p.scatter_add(1, answer, -torch.ones_like(p[:, :1]))
        else:
            direction = torch.randn(rows.shape, generator=generator) / rows.shape[-1] ** 0.5
        total = total + (rows * direction).sum()
    return total


def labeled(outputs: Mapping[str, torch.Tensor], labels: torch.Tensor) -> torch.Tensor:
    """Return the cross entropy of `logits [rows, classes]`, summed over rows."""
    return F.cross_entropy(outputs["logits"], labels, reduction="sum")


def distance(
    student: Mapping[str, torch.Tensor], teacher: Mapping[str, torch.Tensor], mask: torch.Tensor
) -> torch.Tensor:
    """Return how far outputs are from the source's, summed over rows.

    For logits it is the Kullback-Leibler divergence, for vectors the squared distance.
    """
    total = torch.zeros(())
    wanted = per_row(teacher, mask)
    for name, rows in per_row(student, mask).items():
        if name.endswith("logits"):
            p = F.log_softmax(wanted[name] / TEMPERATURE, dim=-1)
            q = F.log_softmax(rows / TEMPERATURE, dim=-1)
            total = total + F.kl_div(q, p, log_target=True, reduction="sum") * TEMPERATURE**2
        else:
            total = total + (rows - wanted[name]).square().sum()
    return total


def distance_over(
    student: Callable[[Mapping[str, np.ndarray]], Mapping[str, torch.Tensor]],
    batches: Sequence[Batch],
    teacher: Iterable[Mapping[str, torch.Tensor]],
) -> float:
    """Return `distance` summed over batches; `teacher` gives the source's outputs batch by batch."""
    with torch.no_grad():
        return sum(
            float(distance(student(b.feeds), wanted, torch.from_numpy(b.mask)))
            for b, wanted in zip(batches, teacher, strict=True)
        )
