"""Read what a canonical graph is made of: blocks with their attention and feed-forwards, embeddings, head. Exact, or not read.

Everything is read from nodes and weight shapes, never from a config, so it stays true after heads or neurons are removed.
"""

from contextlib import suppress
from dataclasses import dataclass, field, replace
from typing import Any

import onnx_ir as ir

from ...errors import SourceError
from .attention_forms import normalizes_scores
from .edit import consumers, dims, is_projection, nodes
from .families.disentangled import is_disentangled, read_disentangled
from .parts import (
    ACTIVATIONS,
    NO_FORM,
    UNREAD,
    AttentionPart,
    FeedForward,
    NearestMatmuls,
    UnreadAttention,
    read_attention,
    read_feed_forward,
)
from .projections import (
    Projection,
    as_projection,
    has_residual,
    is_first_half,
    projection_after,
    projections_behind,
)


@dataclass(frozen=True)
class Block:
    """One encoder layer: an attention and the feed-forwards behind it. `other` are projections of neither part.

    Where attentions or feed-forwards were removed, a block may lack either. Feed-forwards of a block without attention
    belong to the block before; those before the first attention are a block of their own. `input` and `output` are the
    only values that carry the text's content into and out of the block, float32 `[batch, sequence, hidden]`; None where
    several do. `not_read` has a sentence for each part that no pass can change, since its form is not known.
    """

    index: int
    attention: AttentionPart | None
    feed_forwards: tuple[FeedForward, ...]
    other: tuple[Projection, ...] = ()
    input: ir.Value | None = None
    output: ir.Value | None = None
    not_read: tuple[str, ...] = ()

    @property
    def projections(self) -> tuple[Projection, ...]:
        """All projections of the block, each once."""
        a = self.attention
        parts = ((a.q, a.k, a.v, a.o) if a else ()) + tuple(p for f in self.feed_forwards for p in f.projections)
        return tuple({p.node: p for p in (*parts, *self.other)}.values())


@dataclass(frozen=True)
class Anatomy:
    """The parts of an encoder, in order of execution.

    `embeddings` maps names to shapes; `vocabulary` is the number of rows of the one that `input_ids` are looked up in.
    `before` are projections between embeddings and the first block; `head` are those of
    the task.
    """

    blocks: tuple[Block, ...]
    embeddings: dict[str, tuple[int, ...]] = field(default_factory=dict)
    vocabulary: int | None = None
    before: tuple[Projection, ...] = ()
    head: tuple[Projection, ...] = ()
    parameters: int = 0
    nbytes: int = 0

    @property
    def not_read(self) -> tuple[str, ...]:
        """What of the blocks could not be read, a sentence for each part."""
        return tuple(sentence for block in self.blocks for sentence in block.not_read)

    def flops_per_token(self, length: int) -> float:
        """Return floating-point operations per token in a sequence of `length` tokens, two for each multiply-add.

        Projections and the two matmuls of attentions that were read count; norms and activations (well below 2 %) do not.
        """
        projections = sum(p.multiplications for b in self.blocks for p in b.projections)
        projections += sum(p.multiplications for p in self.before)
        attentions = [b.attention for b in self.blocks if b.attention is not None]
        return 2.0 * (projections + sum(2 * length * a.heads * a.head_dim for a in attentions))


def read_anatomy(model: ir.Model) -> Anatomy:
    """Read the anatomy; a model without attention has no blocks. What does not fit is left to `not_read` of its block."""
    graph = model.graph
    anchors = [n for n in nodes(graph, "Attention", "Softmax") if n.op_type == "Attention" or normalizes_scores(n)]
    depth = _depths(graph, anchors)
    attentions = [_attention(n, depth) for n in anchors]
    taken = {n for a in attentions for p in _projections_of(a) for n in p.nodes}
    neighbors = NearestMatmuls()
    forwards = [f for n in nodes(graph, *ACTIVATIONS) if (f := read_feed_forward(n, neighbors)) is not None]
    taken |= {n for f in forwards for p in f.projections for n in p.nodes}
    content = content_values(graph)
    free = [
        n for n in graph if n not in taken and is_projection(n) and n.outputs[0] in content and not is_first_half(n)
    ]
    blocks = _blocks(attentions, forwards, depth, [as_projection(n) for n in free])
    others: dict[int, list[Projection]] = {b.index: [] for b in blocks}
    before: list[Projection] = []
    head: list[Projection] = []
    for projection in map(as_projection, free):
        owner = _owner(projection, depth[projection.node], blocks)
        (others[owner] if owner is not None else head if depth[projection.node] else before).append(projection)
    blocks = [replace(b, other=(*b.other, *others[b.index])) for b in blocks]
    borders = _borders(graph, blocks, content)
    blocks = [
        # One value on both sides is given on beside the blocks: where they begin and end cannot be told.
        # Nor where an attention was not read: what of it lies on which side is unknown.
        replace(b, input=entry, output=leave) if entry is not leave and not (b.not_read and b.attention is None) else b
        for b, entry, leave in zip(blocks, borders, borders[1:], strict=False)
    ]
    tensors = [v.const_value for v in graph.initializers.values() if v.const_value is not None]
    return Anatomy(
        tuple(blocks),
        _embeddings(graph),
        _vocabulary(graph),
        tuple(before),
        tuple(head),
        sum(t.size for t in tensors),
        sum(t.nbytes for t in tensors),
    )


def _attention(node: ir.Node, depth: dict[ir.Node, int]) -> AttentionPart | UnreadAttention:
    """Return what an attention consists of; where that cannot be read, the projections next to it and the reason."""
    try:
        why = node.meta.get(UNREAD)
        if why is None:
            if node.op_type == "Attention":
                return read_attention(node)
            if is_disentangled(node):
                return read_disentangled(node)
            why = NO_FORM
    except SourceError as error:
        why = str(error)
    inputs = node.inputs[:3] if node.op_type == "Attention" else node.inputs[:1]
    near = dict.fromkeys(n for v in inputs for n in projections_behind(v) if depth[n] == depth[node])
    with suppress(SourceError):  # where nothing reads its result by a projection
        near[projection_after(node.outputs[0], node).node] = None
    return UnreadAttention(node, str(why), tuple(as_projection(n) for n in near))


def _projections_of(attention: AttentionPart | UnreadAttention) -> tuple[Projection, ...]:
    if isinstance(attention, UnreadAttention):
        return attention.projections
    return (attention.q, attention.k, attention.v, attention.o)


def _blocks(
    attentions: list[AttentionPart | UnreadAttention],
    forwards: list[FeedForward],
    depth: dict[ir.Node, int],
    free: list[Projection],
) -> list[Block]:
    """Return blocks: each attention with the feed-forwards that follow it.

    A block without any had them removed; or they were not read, as a projection with a residual shows.
    """
    blocks = []
    leading = tuple(f for f in forwards if depth[f.up.node] == 0)
    if leading:
        blocks.append(Block(0, None, leading))
    for place, group in _by_depth(attentions, depth):
        read = [a for a in group if isinstance(a, AttentionPart)]
        unread = [a for a in group if isinstance(a, UnreadAttention)]
        notes = [f"attention {a.node.name!r} is not read: {a.why}" for a in unread]
        own = tuple(f for f in forwards if depth[f.up.node] == place + 1)
        left = [p for p in free if depth[p.node] == place + 1 and has_residual(p)]
        if not own and left:
            notes.append(
                f"the feed-forward behind attention {group[-1].node.name!r} is not read: projection {left[0].node.name!r} belongs "
                "to no known form"
            )
        beside = tuple(dict.fromkeys(p for a in unread for p in a.projections))
        blocks += [Block(len(blocks) + i, a, ()) for i, a in enumerate(read[:-1])]
        blocks.append(Block(len(blocks), read[-1] if read else None, own, beside, not_read=tuple(notes)))
    return blocks


def _by_depth(
    attentions: list[AttentionPart | UnreadAttention], depth: dict[ir.Node, int]
) -> list[tuple[int, list[AttentionPart | UnreadAttention]]]:
    """Return attentions by how many lie before them, in order: those that run beside each other are together."""
    groups: dict[int, list[AttentionPart | UnreadAttention]] = {}
    for attention in attentions:
        groups.setdefault(depth[attention.node], []).append(attention)
    return sorted(groups.items())


def _borders(graph: ir.Graph, blocks: list[Block], content: set[ir.Value]) -> list[ir.Value | None]:
    """Return what carries the content into each block, and what the last block gives: blocks + 1 values."""
    order = {node: i for i, node in enumerate(graph)}
    # What is read on the way is live until then, though it be an output too.
    last = dict.fromkeys(graph.outputs, len(order)) | {v: order[n] for n in graph for v in n.inputs if v is not None}
    alone: list[tuple[int, ir.Value]] = []
    live: list[ir.Value] = []
    for i, node in enumerate(graph):
        live = [
            v for v in (*live, *node.outputs) if v in content and v.dtype == ir.DataType.FLOAT and last.get(v, -1) > i
        ]
        if len(live) == 1 and (not alone or alone[-1][1] is not live[0]):
            alone.append((i, live[0]))
    spans = [[order[n] for p in b.projections for n in p.nodes] for b in blocks]
    borders: list[ir.Value | None] = [
        next((v for i, v in reversed(alone) if i < min(span)), None) if span else None for span in spans
    ]
    # The last block ends as the ones before it: after as many such values behind its last projection (with or without norm).
    behind = [
        [v for i, v in alone if max(span) < i].index(border)
        for span, border in zip(spans, borders[1:], strict=False)
        if span and border is not None and border in [v for i, v in alone if max(span) < i]
    ]
    rest = [v for i, v in alone if spans and spans[-1] and max(spans[-1]) < i]
    borders.append(rest[behind[-1]] if behind and behind[-1] < len(rest) else None)
    return borders


def _depths(graph: ir.Graph, anchors: list[ir.Node]) -> dict[ir.Node, int]:
    """Return for each node how many attentions lie before it; an attention's own result counts it."""
    marks = set(anchors)
    after: dict[ir.Value, int] = {}
    depth: dict[ir.Node, int] = {}
    for node in graph:
        depth[node] = max((after.get(v, 0) for v in node.inputs if v is not None), default=0)
        for out in node.outputs:
            after[out] = depth[node] + (node in marks)
    return depth


def content_values(graph: ir.Graph) -> set[ir.Value]:
    """Return the values that depend on the token ids by content: not the position embeddings that DeBERTa projects."""
    known = {i for i in graph.inputs if i.name == "input_ids"}
    for node in graph:
        if node.op_type != "Shape" and any(v in known for v in node.inputs):
            known.update(node.outputs)
    return known


def _owner(projection: Projection, depth: int, blocks: list[Block]) -> int | None:
    """Return the block of a further projection: by its name where names tell, else by where it lies."""
    for block in blocks:
        parts = (*([block.attention.q] if block.attention else []), *[f.down for f in block.feed_forwards[-1:]])
        prefix = _common_module([p.weight for p in parts]) if len(parts) == 2 else ""
        if prefix and projection.weight.startswith(prefix + "."):
            return block.index
    if 0 < depth < len(blocks) or (depth == len(blocks) and has_residual(projection)):
        return depth - 1
    return None


def _common_module(names: list[str]) -> str:
    shared = []
    for parts in zip(*(n.split(".") for n in names), strict=False):
        if len(set(parts)) > 1:
            break
        shared.append(parts[0])
    return ".".join(shared) if any(p.isdigit() for p in shared) else ""


def _embeddings(graph: ir.Graph) -> dict[str, tuple[int, ...]]:
    """Return name → shape of the weights that a Gather looks rows up in."""
    embeddings = {}
    for node in nodes(graph, "Gather"):
        weight = node.inputs[0]
        shape = dims(weight)
        if weight is not None and weight.is_initializer() and shape is not None and len(shape) == 2 and shape[1] != 1:
            embeddings[str(weight.name)] = tuple(d or 0 for d in shape)
    return embeddings


def _vocabulary(graph: ir.Graph) -> int | None:
    """Return how many ids have an embedding: the rows of the smallest that token ids are looked up in. None where there is none."""
    ids = next((i for i in graph.inputs if i.name == "input_ids"), None)
    rows, queue = [], [ids]
    while queue:
        value = queue.pop()
        for node in consumers(value) if value is not None else ():
            weight = node.inputs[0]
            if node.op_type == "Gather" and node.inputs[1] is value and weight is not None and weight is not value:
                rows.append((dims(weight) or [0])[0] or 0)
            elif node.op_type in ("Reshape", "Identity", "Cast", "Unsqueeze", "Squeeze", "Flatten") and weight is value:
                queue.extend(node.outputs)
    return min(rows) if rows and min(rows) > 0 else None


def describe(anatomy: Anatomy) -> dict[str, Any]:
    """Return the anatomy as JSON, for the manifest and `headway inspect`."""
    return {
        "parameters": anatomy.parameters,
        "bytes": anatomy.nbytes,
        "embeddings": {k: list(v) for k, v in anatomy.embeddings.items()},
        "vocabulary": anatomy.vocabulary,
        "blocks": [
            {
                "heads": b.attention.heads if b.attention else 0,
                "head_dim": b.attention.head_dim if b.attention else 0,
                "kv_heads": b.attention.kv_heads if b.attention else 0,
                "intermediate_size": [f.width for f in b.feed_forwards],
                "activation": [f.activation for f in b.feed_forwards],
                "gated": any(f.gated for f in b.feed_forwards),
                "merged_qkv": bool(b.attention and b.attention.merged),
                "disentangled": bool(b.attention and b.attention.disentangled),
                "not_read": list(b.not_read),
                "ranks": {p.weight: p.rank for p in b.projections if p.rank is not None},
            }
            for b in anatomy.blocks
        ],
        "gflops_per_token_at_128": anatomy.flops_per_token(128) / 1e9,
    }
