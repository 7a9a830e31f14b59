"""Define what compression should preserve: the source's own outputs, or a loss where labels are given. Imports torch.

For unlabeled text the importance of a weight is its Gauss-Newton (Fisher) information about the outputs. `probe` draws a
scalar whose gradient `g` has `E[g gᵀ]` equal to that matrix. For logits it is the log-probability of an answer drawn from the
model itself (Kunstner et al. 2019, section 2), for vectors a random projection.
"""

from collections.abc import Callable, Iterable, Mapping, Sequence
from itertools import chain

import numpy as np
import torch
import torch.nn.functional as F

from ..tasks import SINGLE_LABEL, Activation, Scoring, read_outputs
from .batches import Batch

TEMPERATURE = 2.0
"""Softens the model's own answers: confident ones carry no information (K-prune, arXiv 2308.03449, uses the same value)."""

_ROUNDING = 8 * 2.0**-24
"""What the rounding of a whole forward pass does to an output, relative to the largest."""


def per_row(outputs: Mapping[str, torch.Tensor], mask: torch.Tensor) -> dict[str, torch.Tensor]:
    """Return each output as `[rows, columns]` without padding: tokens of per-token outputs, spans over real tokens only.

    Outputs of integers are left out: they are inputs handed through, or shapes, and no weight has a gradient there.
    """
    flat = {}
    for name in read_outputs(list(outputs)):
        value = outputs[name]
        if not value.is_floating_point():
            continue
        if name.endswith("_logits") and value.shape == mask.shape:  # a position is chosen: start and end of an answer
            flat[name] = value.masked_fill(~mask, -1e4)
        elif value.shape[: mask.ndim] == mask.shape and value.ndim > mask.ndim:
            flat[name] = value[mask]
        else:
            flat[name] = value.reshape(len(value), -1)
    return flat


def _activation(name: str, rows: torch.Tensor, scoring: Scoring | None) -> Activation | None:
    """Return how an output's rows are read, None where they are vectors. A softmax of one column would say nothing."""
    if name == "logits" and scoring is not None:
        return scoring.activation
    if not name.endswith("logits"):
        return None
    return "softmax" if rows.shape[-1] > 1 else "sigmoid"


def probe(
    outputs: Mapping[str, torch.Tensor], mask: torch.Tensor, generator: torch.Generator, scoring: Scoring | None = None
) -> torch.Tensor:
    """Return a scalar to differentiate, summed over rows. Outputs called logits are read by their `scoring`, others are vectors."""
    total = torch.zeros(())
    for name, rows in per_row(outputs, mask).items():
        activation = _activation(name, rows, scoring)
        if activation == "softmax":
            p = torch.softmax(rows.detach() / TEMPERATURE, dim=-1)
            answer = torch.multinomial(p, 1, generator=generator)
            direction = p.scatter_add(1, answer, -torch.ones_like(p[:, :1]))
        elif activation == "sigmoid":  # of the same variance as a drawn answer, and never far from its mean
            p = torch.sigmoid(rows.detach() / TEMPERATURE)
            sign = torch.randint(0, 2, rows.shape, generator=generator) * 2 - 1
            direction = (p * (1 - p)).sqrt() * sign
        else:
            rows = torch.tanh(rows) if activation == "tanh" else rows
            direction = torch.randn(rows.shape, generator=generator) / rows.shape[-1] ** 0.5
        total = total + (rows * direction).sum()
    return total


def labeled(outputs: Mapping[str, torch.Tensor], labels: torch.Tensor, scoring: Scoring = SINGLE_LABEL) -> torch.Tensor:
    """Return the loss of `logits [rows, classes]`, summed over rows.

    It is the cross entropy of class numbers `[rows]`, that of each label by itself, or the squared error of values, both
    `[rows, classes]`.
    """
    logits = outputs["logits"]
    if scoring.activation == "softmax":
        return F.cross_entropy(logits, labels, reduction="sum")
    wanted = labels.reshape(logits.shape).to(logits.dtype)
    if scoring.activation == "sigmoid":
        return F.binary_cross_entropy_with_logits(logits, wanted, reduction="sum")
    return ((torch.tanh(logits) if scoring.activation == "tanh" else logits) - wanted).square().sum()


def _divergence(p: torch.Tensor, q: torch.Tensor) -> torch.Tensor:
    """Return the Kullback-Leibler divergence of log-probabilities, summed over rows, as a sum of terms that are not negative.

    `Σ p (log p - log q)` is what is left of much larger terms of both signs. As both sum to one, `Σ p (e^d - 1 - d)` with
    `d = log q - log p` is the same, without that loss.
    """
    d = q - p
    near = p.exp() * (torch.expm1(d.clamp(max=1.0)) - d.clamp(max=1.0))
    return torch.where(d < 1, near, q.exp() - p.exp() * (1 + d)).sum()


def distance(
    student: Mapping[str, torch.Tensor],
    teacher: Mapping[str, torch.Tensor],
    mask: torch.Tensor,
    scoring: Scoring | None = None,
    dtype: torch.dtype = torch.float64,
) -> torch.Tensor:
    """Return how far outputs are from the source's, summed over rows.

    For logits it is the Kullback-Leibler divergence (of each label by itself where several may hold), for vectors and values the
    squared distance. It is computed in `dtype`: in float32, the divergence of a confident model is rounding noise.
    """
    total = torch.zeros((), dtype=dtype)
    wanted = per_row(teacher, mask)
    for name, rows in per_row(student, mask).items():
        activation = _activation(name, rows, scoring)
        given, right = rows.to(dtype), wanted[name].to(dtype)
        if activation == "softmax":
            p = F.log_softmax(right / TEMPERATURE, dim=-1)
            q = F.log_softmax(given / TEMPERATURE, dim=-1)
            total = total + _divergence(p, q) * TEMPERATURE**2
        elif activation == "sigmoid":
            p, q = right / TEMPERATURE, given / TEMPERATURE
            holds = _divergence(F.logsigmoid(p), F.logsigmoid(q))
            fails = _divergence(F.logsigmoid(-p), F.logsigmoid(-q))
            total = total + (holds + fails) * TEMPERATURE**2
        else:
            if activation == "tanh":
                given, right = torch.tanh(given), torch.tanh(right)
            total = total + (given - right).square().sum()
    return total


def unit(names: Sequence[str], scoring: Scoring | None = None) -> str:
    """Return the unit of `distance` for a text, in words."""
    names = read_outputs(names)
    values = scoring is not None and scoring.activation in ("identity", "tanh")
    nats = [n for n in names if n.endswith("logits") and not (n == "logits" and values)]
    if not nats:
        return "squared distance of the outputs per text"
    return "nats per text" if len(nats) == len(names) else "nats and squared distances per text"


def distance_over(
    student: Callable[[Mapping[str, np.ndarray]], Mapping[str, torch.Tensor]],
    batches: Sequence[Batch],
    teacher: Iterable[Mapping[str, torch.Tensor]],
    scoring: Scoring | None = None,
) -> float:
    """Return `distance` summed over batches, never negative; `teacher` gives the source's outputs batch by batch."""
    with torch.no_grad():
        total = sum(
            float(distance(student(b.feeds), wanted, torch.from_numpy(b.mask), scoring))
            for b, wanted in zip(batches, teacher, strict=True)
        )
    return max(total, 0.0)


def disagreement_over(
    student: Callable[[Mapping[str, np.ndarray]], Mapping[str, torch.Tensor]],
    batches: Sequence[Batch],
    teacher: Iterable[Mapping[str, torch.Tensor]],
    scoring: Scoring | None = None,
) -> float:
    """Return how far a model's answers are from the source's as they are used: what models are compared by.

    Of sentence embeddings it is one less the correlation of all pairwise similarities, since nothing else of them is read: vectors
    that all moved the same way are none the worse. Of all other outputs it is `distance`.
    """
    with torch.no_grad():
        answers = iter(teacher)
        first = [next(answers)] if batches else []
        wanted = chain(first, answers)
        if (
            read_outputs([*first[0]] if first else []) != ["sentence_embedding"]
            or sum(len(b.rows) for b in batches) < 3
        ):
            return distance_over(student, batches, wanted, scoring)
        ours, theirs = [], []
        for batch, right in zip(
            batches, wanted, strict=True
        ):  # embeddings alone: other outputs may be as large as the text
            ours.append(student(batch.feeds)["sentence_embedding"])
            theirs.append(right["sentence_embedding"])
        similar = [_similarities(torch.cat(vectors).double()) for vectors in (ours, theirs)]
        agreement = torch.corrcoef(torch.stack(similar))[0, 1]
    return 1.0 - float(agreement.nan_to_num(nan=0.0))  # texts that all became the same agree with nothing


def _similarities(vectors: torch.Tensor) -> torch.Tensor:
    """Return the cosine of each pair of `[texts, features]`, once."""
    unit_vectors = F.normalize(vectors, dim=-1)
    rows, columns = torch.triu_indices(len(vectors), len(vectors), 1)
    return (unit_vectors @ unit_vectors.T)[rows, columns]


def noise_floor(
    batches: Sequence[Batch], teacher: Iterable[Mapping[str, torch.Tensor]], scoring: Scoring | None = None
) -> float:
    """Return the distance, summed over batches, that rounding alone makes.

    Every output is moved by what float32 cannot tell apart in a sum of its magnitude: a few units in the last place of the
    largest output of its text, up and down by turns.
    """

    def moved(value: torch.Tensor) -> torch.Tensor:
        largest = value.abs().flatten(1).amax(dim=1).reshape(-1, *[1] * (value.ndim - 1))
        signs = 1 - 2 * (torch.arange(value.numel()) % 2).reshape(value.shape)
        return value.double() + signs * largest.double() * _ROUNDING

    total = 0.0
    for batch, outputs in zip(batches, teacher, strict=True):
        other = {name: moved(value) for name, value in outputs.items()}
        total += float(distance(other, outputs, torch.from_numpy(batch.mask), scoring))
    return max(total, 0.0)
