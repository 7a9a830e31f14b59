"""Collect what calibration tells about every projection of a model, and where structure can be removed. Imports torch.

A *site* is a projection whose inputs can be removed: the output projection of an attention (by heads), or the second projection of a
feed-forward (by neurons). Two statistics are kept of every projection of a block. One is the second moment of its inputs, each
token weighted by how much the outputs depend on it. The other is the second moment of the gradient at its output. Padding never counts.
"""

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
import onnx_ir as ir
import torch

from ...calibration.batches import Batch
from ...calibration.objective import labeled, probe
from ...errors import UsageError
from ...tasks import SINGLE_LABEL, Scoring
from ..graph.anatomy import Anatomy, Projection
from ..graph.torch_graph import TorchGraph

FLOOR = 0.05
"""Least weight of a token, as a part of its text's mean: what the outputs ignore today still anchors the repair."""

SCHEMA_VERSION = 1


@dataclass(frozen=True)
class Site:
    """A place where units (heads or neurons) can be removed. `unit` neighboring inputs of `projection` belong to each."""

    name: str
    block: int
    number: int | None
    projection: Projection
    units: int
    unit: int

    @property
    def is_attention(self) -> bool:
        """Whether the units are heads of an attention."""
        return self.number is None


def sites(anatomy: Anatomy) -> list[Site]:
    """Return all sites, in order of execution."""
    all_sites = []
    for block in anatomy.blocks:
        if block.attention is not None:
            a = block.attention
            all_sites.append(Site(f"{block.index}.heads", block.index, None, a.o, a.heads, a.head_dim))
        for number, forward in enumerate(block.feed_forwards):
            all_sites.append(
                Site(f"{block.index}.neurons.{number}", block.index, number, forward.down, forward.width, 1)
            )
    return all_sites


@dataclass
class Evidence:
    """Statistics of a model, as float32 arrays by the name of the value they are of.

    `inputs [n, n]` and `mean [n]` are weighted second and first moments of a projection's inputs. `outputs [out, out]` is the second
    moment of the gradient at its output, or the diagonal of it `[out]` where a projection widens.
    """

    source: str
    text: str
    seed: int
    samples: int
    tokens: int
    labeled: bool
    inputs: dict[str, np.ndarray]
    mean: dict[str, np.ndarray]
    outputs: dict[str, np.ndarray]

    def describe(self) -> dict[str, Any]:
        """Return what the manifest says about where the statistics come from."""
        names = ("source", "text", "seed", "samples", "tokens", "labeled")
        return {"schema_version": SCHEMA_VERSION, **{n: getattr(self, n) for n in names}}


def collect(
    graph: TorchGraph,
    anatomy: Anatomy,
    batches: Sequence[Batch],
    *,
    source: str,
    text: str,
    labels: np.ndarray | None = None,
    scoring: Scoring | None = None,
    seed: int = 0,
    on_batch: Callable[[], None] = lambda: None,
) -> Evidence:
    """Run a model over the batches, forward and backward, and return every projection's statistics.

    `labels` are class numbers `[texts]`, or a value for each of several labels, for models with `logits [texts, classes]`, which
    are read by `scoring`. Raises UsageError where they do not fit the model or the texts.
    """
    _check_labels(graph, batches, labels)
    projections = {p.output: p for b in anatomy.blocks for p in b.projections}
    sums = _Sums(list(projections.values()))
    tokens = 0
    for number, batch in enumerate(batches):
        mask = torch.from_numpy(batch.mask)
        inner: dict[ir.Value, torch.Tensor] = {}
        hooks = {v: _keeper(inner, v, True) for v in sums.inputs}
        hooks |= {v: _keeper(inner, v, False) for v in projections if v not in hooks}
        outputs = graph(batch.feeds, hooks)
        if labels is None:
            loss = probe(outputs, mask, torch.Generator().manual_seed(seed * 1_000_003 + number), scoring)
        else:
            loss = labeled(outputs, torch.from_numpy(labels[batch.rows]), scoring or SINGLE_LABEL)
        slopes = torch.autograd.grad(loss, [inner[v] for v in projections])
        del outputs, loss
        with torch.no_grad():
            values = {v: x.detach() for v, x in inner.items()}
            sums.add(values, dict(zip(projections, slopes, strict=True)), mask.reshape(-1, mask.shape[-1]))
        tokens += int(mask.sum())
        on_batch()
    return Evidence(
        source, text, seed, sum(len(b.rows) for b in batches), tokens, labels is not None, **sums.results(tokens)
    )


class _Sums:
    """Running sums of all statistics. Activations are `[texts, sequence, features]`."""

    def __init__(self, projections: Sequence[Projection]):
        self.readers: dict[ir.Value, list[Projection]] = {}
        for p in projections:
            self.readers.setdefault(p.input, []).append(p)
        self.inputs = {v: torch.zeros(r[0].in_features, r[0].in_features) for v, r in self.readers.items()}
        self.first = {v: torch.zeros(r[0].in_features) for v, r in self.readers.items()}
        self.weight = dict.fromkeys(self.readers, 0.0)
        self.outputs = {
            p.output: torch.zeros(p.out_features, p.out_features)
            if p.out_features <= p.in_features
            else torch.zeros(p.out_features)
            for p in projections
        }

    def add(
        self, inner: dict[ir.Value, torch.Tensor], slopes: dict[ir.Value, torch.Tensor], mask: torch.Tensor
    ) -> None:
        for value, readers in self.readers.items():
            x = inner[value][mask]
            w = _token_weights([slopes[p.output] for p in readers], mask)[mask][:, None]
            self.inputs[value] += (x * w).T @ x
            self.first[value] += (x * w).sum(0)
            self.weight[value] += float(w.sum())
        for value, total in self.outputs.items():
            g = slopes[value][mask]
            total += g.T @ g if total.ndim == 2 else g.square().sum(0)

    def results(self, tokens: int) -> dict[str, dict[str, np.ndarray]]:
        """Return the means, made in place of the sums: of a large model they are as large as its weights."""

        def identity(total: torch.Tensor) -> torch.Tensor:
            return torch.eye(len(total)) if total.ndim == 2 else torch.ones(len(total))

        return {
            "inputs": {str(v.name): x.div_(self.weight[v]).numpy() for v, x in self.inputs.items()},
            "mean": {str(v.name): x.div_(self.weight[v]).numpy() for v, x in self.first.items()},
            "outputs": {  # where nothing depends on an output, every direction of it counts alike
                str(v.name): (x.div_(tokens) if x.any() else identity(x)).numpy() for v, x in self.outputs.items()
            },
        }


def _token_weights(slopes: Sequence[torch.Tensor], mask: torch.Tensor) -> torch.Tensor:
    """Return how much the outputs depend on each token, `[texts, sequence]`. The mean of each text is 1, whatever its batch."""
    energy = torch.stack([g.square().sum(-1) for g in slopes]).sum(0) * mask
    mean = energy.sum(1, keepdim=True) / mask.sum(1, keepdim=True)
    return torch.where(mask, (1 - FLOOR) * energy / mean.clamp_min(1e-30) + FLOOR, 0.0)


def _keeper(into: dict[ir.Value, torch.Tensor], value: ir.Value, leaf: bool) -> Callable[[torch.Tensor], torch.Tensor]:
    """Return a hook that keeps a value. Gradients are taken with respect to the first value that is kept on the way."""

    def keep(tensor: torch.Tensor) -> torch.Tensor:
        if leaf and not tensor.requires_grad:
            tensor = tensor.detach().requires_grad_()
        into[value] = tensor
        return tensor

    return keep


def _check_labels(graph: TorchGraph, batches: Sequence[Batch], labels: np.ndarray | None) -> None:
    if labels is None:
        return
    names = [str(v.name) for v in graph.outputs]
    if "logits" not in names:
        raise UsageError(f"labels are classes, but the model gives {', '.join(names)} and no logits")
    highest = int(max(b.rows.max() for b in batches))
    if highest >= len(labels):
        raise UsageError(f"{len(labels)} labels were given for {highest + 1} texts")
