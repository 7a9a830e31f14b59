"""Distill a compressed model briefly from its own source, on the user's text. Imports torch.

The compressed graph's weights are trained towards three things: the source's outputs, its hidden states behind each block, and its
attention scores for the heads that stayed. Source: TinyBERT (arXiv 1909.10351), section 3. Hidden states need no projection,
since the hidden size is the same.
"""

import hashlib
import math
import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path

import numpy as np
import onnx_ir as ir
import torch

from ...calibration.batches import Batch
from ...calibration.objective import distance
from ...errors import SourceError
from ...tasks import Scoring
from ..graph.anatomy import Anatomy, AttentionPart, read_anatomy
from ..graph.edit import attribute_float
from ..graph.torch_graph import TorchGraph
from ..passes.cuts import set_array
from ..passes.heads import original_heads

RATE = 3e-4
_RATE_OF_ROUNDS = 1e-4
"""The learning rate of a few rounds over the text: at three times as much, a short training of a model that lost little does harm."""

_SAVE_EVERY = 60.0
_WARM_UP = 10
"""Steps in which the rate rises: before the first gradients are averaged, a step is a leap."""

OnStep = Callable[[float, float], None]
"""Called with the part of the training that is done, and the running loss."""


@dataclass
class Recovery:
    """What a training did: the loss of each step as (seconds, loss), and how many texts it saw."""

    losses: list[tuple[float, float]] = field(default_factory=list)
    texts: int = 0
    seconds: float = 0.0


def recover(
    source: TorchGraph,
    source_anatomy: Anatomy,
    model: ir.Model,
    batches: Sequence[Batch],
    minutes: float,
    *,
    scoring: Scoring | None = None,
    epochs: int | None = None,
    state: Path | None = None,
    seed: int = 0,
    on_step: OnStep = lambda *_: None,
) -> Recovery:
    """Train `model` in place for `minutes` of wall time in all, or for `epochs` rounds over the batches where that is less.

    `state` keeps the progress, every minute and on interruption; where it is there, training resumes. SourceError: it is another's.
    """
    graph = TorchGraph(model)
    trained = {
        name: torch.nn.Parameter(tensor.clone())
        for name, tensor in graph.weights.items()
        if tensor.dtype == torch.float32 and tensor.ndim and tensor.numel() > 1 and not _is_table(model, name)
    }
    graph.weights.update(trained)
    optimizer = torch.optim.AdamW(trained.values(), lr=RATE, weight_decay=0.0)
    pairs = _pairs(source_anatomy, read_anatomy(model))
    key = _key(trained, batches)
    done = _load(state, key, trained, optimizer) if state is not None and state.is_file() else Recovery()
    rows = _order(batches, seed)
    for _ in range(done.texts and len(done.losses)):
        next(rows)
    began, saved = time.monotonic() - done.seconds, time.monotonic()
    allowed, steps, running = minutes * 60.0, epochs * len(batches) if epochs else math.inf, None
    try:
        while (share := max((time.monotonic() - began) / allowed, len(done.losses) / steps)) < 1.0:
            _set_rate(optimizer, _RATE_OF_ROUNDS if epochs else RATE, len(done.losses), share)
            batch = batches[next(rows)]
            loss = _loss(source, graph, batch, pairs, scoring)
            loss.backward()
            torch.nn.utils.clip_grad_norm_(trained.values(), 1.0)
            optimizer.step()
            optimizer.zero_grad()
            value = float(loss.detach())
            running = value if running is None else 0.95 * running + 0.05 * value
            done.texts += len(batch.rows)
            done.seconds = time.monotonic() - began
            done.losses.append((done.seconds, value))
            on_step(min(1.0, max(done.seconds / allowed, len(done.losses) / steps)), running)
            if state is not None and time.monotonic() - saved > _SAVE_EVERY:
                _save(state, key, done, trained, optimizer)
                saved = time.monotonic()
    except KeyboardInterrupt:
        if state is not None:
            _save(state, key, done, trained, optimizer)
        raise
    for name, tensor in trained.items():
        set_array(model.graph.initializers[name], tensor.detach().numpy())
    if state is not None:
        state.unlink(missing_ok=True)
    return done


def _set_rate(optimizer: torch.optim.Optimizer, rate: float, steps: int, share: float) -> None:
    """Set the learning rate of a step: it rises in the first few, and falls with the part that is done."""
    for group in optimizer.param_groups:
        group["lr"] = rate * min(1.0, (steps + 1) / _WARM_UP) * max(0.02, 1.0 - share)


@dataclass(frozen=True)
class _Pair:
    """Activations of source and compressed model that should be equal: hidden states, or an attention's inputs and its heads."""

    theirs: tuple[ir.Value, ...]
    ours: tuple[ir.Value, ...]
    heads: tuple[int, ...] = ()
    scale: float = 1.0


def _pairs(source: Anatomy, anatomy: Anatomy) -> list[_Pair]:
    by_name = {str(b.output.name): b.output for b in source.blocks if b.output is not None}
    pairs = [
        _Pair((by_name[str(b.output.name)],), (b.output,))
        for b in anatomy.blocks
        if b.output is not None and str(b.output.name) in by_name
    ]
    theirs = {str(b.attention.o.output.name): b.attention for b in source.blocks if b.attention is not None}
    for block in anatomy.blocks:
        ours = block.attention
        name = str(ours.o.output.name) if ours is not None else ""
        if ours is None or name not in theirs or ours.disentangled or ours.heads != ours.kv_heads:
            continue
        heads = original_heads(ours)
        if len(heads) == ours.heads:
            pairs.append(_Pair(_scored(theirs[name]), _scored(ours), heads, attribute_float(ours.node, "scale")))
    return pairs


def _scored(part: AttentionPart) -> tuple[ir.Value, ...]:
    return tuple(v for v in part.node.inputs[:2] if v is not None)


def _loss(
    source: TorchGraph, graph: TorchGraph, batch: Batch, pairs: Sequence[_Pair], scoring: Scoring | None
) -> torch.Tensor:
    """Return the loss of a batch: distance of the outputs, and of hidden states and attention scores relative to their size."""
    theirs: dict[ir.Value, torch.Tensor] = {}
    ours: dict[ir.Value, torch.Tensor] = {}
    with torch.no_grad():
        teacher = source(batch.feeds, _keepers(theirs, (v for p in pairs for v in p.theirs)))
    student = graph(batch.feeds, _keepers(ours, (v for p in pairs for v in p.ours)))
    mask = torch.from_numpy(batch.mask)
    flat = mask.reshape(-1, mask.shape[-1])
    outputs = distance(student, teacher, mask, scoring, torch.float32) / len(batch.rows)
    inner = torch.zeros(())
    for pair in pairs:
        if pair.heads:
            inner = inner + _attention_loss(theirs, ours, pair, flat)
        else:
            wanted, given = theirs[pair.theirs[0]][flat], ours[pair.ours[0]][flat]
            inner = inner + (wanted - given).square().sum() / wanted.square().sum()
    return outputs + inner / max(len(pairs), 1)


def _attention_loss(
    theirs: Mapping[ir.Value, torch.Tensor], ours: Mapping[ir.Value, torch.Tensor], pair: _Pair, mask: torch.Tensor
) -> torch.Tensor:
    """Return the KL divergence of attention over real keys, for real queries, in the heads that stayed."""
    q, k = (ours[v].unflatten(-1, (len(pair.heads), -1)).transpose(1, 2) for v in pair.ours)
    dim = q.shape[-1]
    tq, tk = (theirs[v].unflatten(-1, (-1, dim)).transpose(1, 2)[:, list(pair.heads)] for v in pair.theirs)
    hidden = ~mask[:, None, None, :]
    wanted = torch.log_softmax((tq @ tk.mT * pair.scale).masked_fill(hidden, -1e4), dim=-1)
    given = torch.log_softmax((q @ k.mT * pair.scale).masked_fill(hidden, -1e4), dim=-1)
    kl = (wanted.exp() * (wanted - given)).sum(-1).mean(1)
    return kl[mask].mean()


def _keepers(
    into: dict[ir.Value, torch.Tensor], values: Iterator[ir.Value]
) -> dict[ir.Value, Callable[[torch.Tensor], torch.Tensor]]:
    def keeper(value: ir.Value) -> Callable[[torch.Tensor], torch.Tensor]:
        def keep(tensor: torch.Tensor) -> torch.Tensor:
            into[value] = tensor
            return tensor

        return keep

    return {v: keeper(v) for v in values}


def _is_table(model: ir.Model, name: str) -> bool:
    """Tell whether a weight is an embedding. These are not trained: a few texts say nothing about most of their rows."""
    return any(n.op_type == "Gather" for n, _ in model.graph.initializers[name].uses())


def _order(batches: Sequence[Batch], seed: int) -> Iterator[int]:
    """Yield numbers of batches without end, each once in every round, in random order."""
    rng = np.random.default_rng(seed)
    while True:
        yield from rng.permutation(len(batches)).tolist()


def _key(trained: Mapping[str, torch.Tensor], batches: Sequence[Batch]) -> str:
    """Return a name for what a saved state belongs to: the shapes of the weights and of the batches."""
    digest = hashlib.sha256()
    for name, tensor in trained.items():
        digest.update(name.encode())
        digest.update(str(tuple(tensor.shape)).encode())
    digest.update(str([b.feeds["input_ids"].shape for b in batches]).encode())
    return digest.hexdigest()


def _save(
    state: Path, key: str, done: Recovery, trained: Mapping[str, torch.Tensor], optimizer: torch.optim.Optimizer
) -> None:
    from safetensors.torch import save_file

    arrays = {f"weight/{n}": t.detach().contiguous() for n, t in trained.items()}
    for n, t in trained.items():
        moments = optimizer.state.get(t, {})
        arrays |= {f"{k}/{n}": v.contiguous() for k, v in moments.items() if torch.is_tensor(v)}
    arrays["losses"] = torch.tensor(done.losses, dtype=torch.float64).reshape(-1, 2)
    beside = state.with_suffix(".part")
    save_file(arrays, beside, metadata={"key": key, "texts": str(done.texts), "seconds": str(done.seconds)})
    beside.replace(state)


def _load(state: Path, key: str, trained: Mapping[str, torch.Tensor], optimizer: torch.optim.Optimizer) -> Recovery:
    from safetensors import safe_open

    try:
        with safe_open(state, "pt") as file:
            about = file.metadata() or {}
            if about.get("key") != key:
                raise SourceError(f"{state}: the progress of another compression; remove the file to start anew")
            losses = [(float(s), float(v)) for s, v in file.get_tensor("losses").tolist()]
            names = list(file.keys())
            with torch.no_grad():
                for name, tensor in trained.items():
                    tensor.copy_(file.get_tensor(f"weight/{name}"))
                    if f"exp_avg/{name}" in names:
                        optimizer.state[tensor] = {
                            k: file.get_tensor(f"{k}/{name}") for k in ("step", "exp_avg", "exp_avg_sq")
                        }
    except OSError as error:
        raise SourceError(f"{state}: cannot be read ({error})") from error
    return Recovery(losses, int(about["texts"]), float(about["seconds"]))
