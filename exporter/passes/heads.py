"""Remove attention heads: columns of the query, key and value projections, rows of the output projection."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass

import numpy as np
import onnx_ir as ir

from ...errors import UsageError
from ..graph.anatomy import Anatomy, AttentionPart, as_projection
from ..graph.edit import ancestors, constant, consumers, dims, initializer, insert, is_projection, producer
from .base import StructuralPass, attention_of, check_indices, the_block
from .blocks import drop_part
from .cuts import Cuts, resize

_ORIGINAL = "original_heads"
_SHAPED_BY = ("Reshape", "Expand", "Tile")
_AXIS_OF_MERGED = 2
"""The axis of `[batch, sequence, 3, heads, width]`, a merged projection, whose 3 is not the number of heads."""


@dataclass
class RemoveHeads(StructuralPass):
    """Keep in each block named the heads given (0-based); their number may differ from block to block.

    A block that keeps no head loses its attention: the residual stays, and the constant that the attention's bias added.
    Heads that share keys and values (grouped queries) can only be removed together. Source: Michel et al. 2019, section 2.
    """

    keep: Mapping[int, Sequence[int]]

    def edit(self, model: ir.Model, anatomy: Anatomy) -> dict[str, str]:
        cuts, changes, dropped, changed = Cuts(), {}, [], []
        for index, wanted in self.keep.items():
            part = attention_of(the_block(anatomy, index), "to remove heads from")
            kept_heads = check_indices(wanted, part.heads, "head", f"block {index}")
            if len(kept_heads) == part.heads:
                continue
            changes[f"block {index}"] = f"heads {part.heads} → {len(kept_heads)}"
            if not kept_heads:
                dropped.append(part)
                continue
            _cut(model, part, kept_heads, cuts)
            changed.append((part, kept_heads, _by_head(part)))
        cuts.apply()
        for part, kept_heads, by_head in changed:
            _adapt(model.graph, part, kept_heads, by_head)
        for part in dropped:
            drop_part(model.graph, part.o)
        return changes


def original_heads(part: AttentionPart) -> tuple[int, ...]:
    """Return the indices, in the source, of the heads that an attention still has, in its order."""
    return tuple(part.node.meta.get(_ORIGINAL, range(part.heads)))


def columns_of(heads: Sequence[int], head_dim: int) -> np.ndarray:
    """Return the columns of `heads` where each head has `head_dim` adjacent ones."""
    return (np.asarray(heads, np.int64)[:, None] * head_dim + np.arange(head_dim)).reshape(-1)


def _cut(model: ir.Model, part: AttentionPart, kept_heads: list[int], cuts: Cuts) -> None:
    columns = columns_of(kept_heads, part.head_dim)
    per_group = part.heads // part.kv_heads
    groups = sorted({h // per_group for h in kept_heads})
    if len(groups) * per_group != len(kept_heads):
        raise UsageError(
            f"attention {part.node.name!r}: {per_group} heads share their keys and values; keep or remove them together"
        )
    _check_inside(part)
    if part.merged:
        cuts.columns(part.q.node, _merged_columns(model, part, kept_heads, groups))
    else:
        cuts.columns(part.q.node, columns)
        for projection in (part.k, part.v):
            cuts.columns(projection.node, columns_of(groups, part.head_dim))
        for node in _inner(part):
            if is_projection(node) and (dims(node.outputs[0]) or [None])[-1] == part.heads * part.head_dim:
                cuts.columns(node, columns)  # the embedding of relative positions, projected into heads as well
    cuts.rows(part.o, columns)


def _check_inside(part: AttentionPart) -> None:
    """Raise UsageError where a trained vector spans all heads (ESM-C's norm of queries), or merged weights have disentangled terms."""
    if part.disentangled and part.merged:
        raise UsageError(f"attention {part.node.name!r}: heads of one weight with disentangled terms cannot be removed")
    widths = {part.heads * part.head_dim, part.kv_heads * part.head_dim}
    for node in _inner(part) if not part.disentangled and part.kv_heads > 1 else ():
        spans = any(v is not None and v.is_initializer() and dims(v) in [[w] for w in widths] for v in node.inputs)
        if spans and not is_projection(node) and node.op_type not in _SHAPED_BY:
            raise UsageError(
                f"node {node.name!r} ({node.op_type}) spans all heads of its attention; they cannot be removed"
            )


def _inner(part: AttentionPart) -> list[ir.Node]:
    """Return the nodes between the query, key and value projections and the output projection, and what those depend on."""
    stop = {p.output for p in (part.q, part.k, part.v)} | {p.node.outputs[0] for p in (part.q, part.k, part.v)}
    if not part.disentangled and len(part.node.inputs) > 3 and part.node.inputs[3] is not None:
        stop.add(part.node.inputs[3])
    producers = dict.fromkeys(v.producer() for v in ancestors(part.o.input, stop) if v not in stop)
    return [n for n in producers if n is not None]


def _by_head(part: AttentionPart) -> list[ir.Node]:
    """Return the inner nodes whose result is laid out by heads: what follows a projection into heads, and indices into that."""
    inner = _inner(part)
    width = part.heads * part.head_dim
    # Dicts, not sets: the order of what is edited, and with it the artifact's bytes, is the same in every run.
    split = dict.fromkeys(p.output for p in (part.q, part.k, part.v))
    projected = (as_projection(n) for n in inner if is_projection(n))
    split |= dict.fromkeys(p.output for p in projected if p.out_features == width)
    by_head, members = split.copy(), set(inner)
    for value in split:
        queue = [value]
        while queue:
            for node in consumers(queue.pop()):
                if (
                    node in members
                    and not (node.op_type == "Shape" or is_projection(node))
                    and node.outputs[0] not in by_head
                ):
                    by_head.update(dict.fromkeys(node.outputs))
                    queue.extend(node.outputs)
    indices = [
        n
        for n in inner
        if n.op_type == "Expand"
        and (size := n.inputs[1]) is not None
        and any(producer(v, "Mul") for v in ancestors(size))
    ]
    producers = [v.producer() for v in by_head if v not in split]
    return list(dict.fromkeys([n for n in producers if n is not None] + indices))


def _merged_columns(model: ir.Model, part: AttentionPart, kept_heads: list[int], groups: list[int]) -> np.ndarray:
    """Return the columns of a merged projection that reach the kept heads, found by running a one through each column."""
    import torch

    from ..graph.torch_graph import TorchGraph

    size = part.q.out_features
    graph = TorchGraph(model)
    targets = [v for v in part.node.inputs[:3] if v is not None]
    needed = {p for t in targets for v in ancestors(t) if (p := v.producer()) is not None}
    feeds = {str(i.name): np.ones((size, 1), np.int64) for i in graph.inputs}
    ones = torch.eye(size)[:, None, :]
    with torch.no_grad():
        reached = graph.run(
            graph.feeds(feeds),
            targets,
            hooks={part.q.output: lambda _: ones},
            nodes=[n for n in graph.nodes if n in needed],
        )
    used = torch.zeros(size, dtype=torch.bool)
    for target, heads in zip(targets, (kept_heads, groups, groups), strict=True):
        nonzero = reached[target][:, 0].unflatten(-1, (-1, part.head_dim)).abs().amax(-1) > 0
        used |= nonzero[:, heads].any(1)
    return np.flatnonzero(used.numpy())


def _adapt(graph: ir.Graph, part: AttentionPart, kept_heads: list[int], by_head: list[ir.Node]) -> None:
    """Change everything between the projections to the new number of heads."""
    old, new = part.heads, len(kept_heads)
    part.node.meta[_ORIGINAL] = tuple(original_heads(part)[h] for h in kept_heads)
    if not part.disentangled:
        part.node.attributes["q_num_heads"] = ir.AttrInt64("q_num_heads", new)
        part.node.attributes["kv_num_heads"] = ir.AttrInt64("kv_num_heads", new * part.kv_heads // old)
        resize(part.node.outputs[0], new * part.head_dim)
        _bias_per_head(graph, part.node, kept_heads, old)
    shared = _of_keys_and_values(part, by_head) if part.kv_heads != old else set()
    for node in by_head:
        before, after = (part.kv_heads, new * part.kv_heads // old) if node in shared else (old, new)
        if node.op_type in _SHAPED_BY:
            _reshape_heads(graph, node, before, after, part.head_dim)
        for out in node.outputs:
            _note_shape(out, before, after, part.head_dim)
    if part.disentangled:
        _note_shape(part.node.outputs[0], old, new, part.head_dim)


def _of_keys_and_values(part: AttentionPart, by_head: list[ir.Node]) -> set[ir.Node]:
    """Return the nodes between the key and value projections and the attention: there are fewer heads there than of queries."""
    members = set(by_head) - {part.node}
    shared: set[ir.Node] = set()
    queue = [part.k.output, part.v.output]
    while queue:
        for node in consumers(queue.pop()):
            if node in members and node not in shared:
                shared.add(node)
                queue.extend(node.outputs)
    return shared


def _note_shape(value: ir.Value, old: int, new: int, head_dim: int) -> None:
    """Update a recorded shape; a size that combines batch and heads in one axis is left to shape inference.

    So is a shape in which the number of heads might be their width, which is the same number.
    """
    if value.shape is None:
        return
    if old == head_dim and old in list(value.shape):
        value.shape = None
        return
    *leading, last = list(value.shape)
    merged_axis = _AXIS_OF_MERGED if len(leading) == 4 and old == 3 else None
    counted = [
        new if d == old and i != merged_axis else d if isinstance(d, int) or str(d.value).isidentifier() else None
        for i, d in enumerate(leading)
    ]
    value.shape = ir.Shape([*counted, new * head_dim if last == old * head_dim else last])


def _bias_per_head(graph: ir.Graph, node: ir.Node, kept_heads: list[int], old: int) -> None:
    """Gather the kept heads' slices of a learned position bias."""
    bias = node.inputs[3] if len(node.inputs) > 3 else None
    shape = dims(bias)
    if bias is None or shape is None or shape[1] in (1, None):
        return
    if shape[1] != old:
        raise UsageError(f"attention {node.name!r}: its bias has {shape[1]} slices for {old} heads")
    index = initializer(graph, f"{node.name}.kept_heads.{len(kept_heads)}", np.asarray(kept_heads, np.int64))
    picked = insert(node, "Gather", [bias, index], name=f"{bias.name}.of.{node.name}", dtype=bias.dtype, axis=1)
    node.replace_input_with(3, picked)


def _reshape_heads(graph: ir.Graph, node: ir.Node, old: int, new: int, head_dim: int) -> None:
    """Replace the numbers in a shape input that stand for heads, or for the columns of all heads."""
    shape = node.inputs[1]
    assert shape is not None
    node.replace_input_with(1, _renumbered(graph, node, shape, old, new, head_dim))


def _renumbered(
    graph: ir.Graph, reader: ir.Node, value: ir.Value, old: int, new: int, head_dim: int, *, ends: bool = True
) -> ir.Value:
    """Return a shape input with the new number of heads.

    `ends`: the last entry is the last of the shape, the only one that can be the columns of all heads. An entry elsewhere
    may equal that number by chance.
    """
    array = constant(value)
    if array is not None:
        flat = array.reshape(-1).astype(np.int64)
        changed = flat.copy()
        if ends and flat[-1] == old * head_dim:
            changed[-1] = new * head_dim
        counts = flat == old
        counts[-1] &= len(flat) == 1  # a last entry is the width of a head, never a number of heads
        if len(flat) == 5 and old == 3:
            counts[_AXIS_OF_MERGED] = False
        changed[counts] = new
        if np.array_equal(changed, flat):
            return value
        name = f"{value.name}.{'x'.join(map(str, changed)).replace('-', 'm')}"
        return initializer(graph, name, changed.reshape(array.shape))
    node = value.producer()
    if node is None or node.op_type not in ("Concat", "Mul", "Reshape"):
        return value
    inputs = list(node.inputs[:1]) if node.op_type == "Reshape" else list(node.inputs)
    fresh = []
    for position, v in enumerate(inputs):
        last = node.op_type == "Concat" and position == len(inputs) - 1 and len(inputs) > 1
        merged = node.op_type == "Concat" and position == _AXIS_OF_MERGED and len(inputs) == 5 and old == 3
        fresh.append(
            v
            if v is None or merged or (last and _is_count(v, old, head_dim))
            else _renumbered(graph, reader, v, old, new, head_dim, ends=ends and (last or len(inputs) == 1))
        )
    if all(a is b for a, b in zip(fresh, inputs, strict=True)):
        return value
    attributes = {name: a.value for name, a in node.attributes.items()}
    return insert(
        reader,
        node.op_type,
        [*fresh, *node.inputs[len(fresh) :]],
        name=f"{value.name}.of.{reader.name}",
        dtype=value.dtype,
        shape=value.shape,
        **attributes,
    )


def _is_count(value: ir.Value, old: int, head_dim: int) -> bool:
    """Return True for a single last entry that equals the number of heads by chance: it is the width of a head."""
    array = constant(value)
    return array is not None and array.size == 1 and int(array.reshape(-1)[0]) == old == head_dim
