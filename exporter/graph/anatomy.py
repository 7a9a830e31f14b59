"""What the canonical graph is made of: blocks with their attention and feed-forwards, embeddings, head. Exact or an error.

Everything is read from nodes and weight shapes, never from a config, so it stays true after heads or neurons are removed.
"""

from collections.abc import Iterable
from dataclasses import dataclass, field, replace
from itertools import islice
from typing import Any

import onnx_ir as ir

from ...errors import SourceError
from .attention import normalizes_scores
from .edit import (
    ancestors,
    attribute,
    bias_add,
    consumers,
    dims,
    is_projection,
    nodes,
    producer,
    projection_weight,
    reach,
)
from .quantized import readers_through, unrounded

_ACTIVATIONS = ("Gelu", "Relu", "Tanh", "Sigmoid", "Swish", "Mish", "Elu", "LeakyRelu", "HardSwish", "Softplus")
_ROUNDING = ("QuantizeTokens", "QuantizeLinear", "DequantizeLinear")
_ELEMENTWISE = (*_ACTIVATIONS, *_ROUNDING, "Add", "Mul", "Split", "Slice", "Identity", "Cast")


@dataclass(frozen=True)
class Projection:
    """`y = x W + b`: the MatMul, its weight's name and its sizes. Where W is split, `y = (x A) B + b`: `first` is the MatMul by A.

    `node` and `weight` are then those of B; `in_features` and `out_features` are those of the whole, `rank` that between.
    """

    node: ir.Node
    weight: str
    in_features: int
    out_features: int
    bias: ir.Node | None
    first: ir.Node | None = None
    rank: int | None = None

    @property
    def input(self) -> ir.Value:
        value = (self.first or self.node).inputs[0]
        assert value is not None
        return value

    @property
    def output(self) -> ir.Value:
        return (self.bias or self.node).outputs[0]

    @property
    def nodes(self) -> tuple[ir.Node, ...]:
        return (self.node,) if self.first is None else (self.first, self.node)

    @property
    def multiplications(self) -> int:
        """Multiply-adds for one token."""
        if self.rank is None:
            return self.in_features * self.out_features
        return self.rank * (self.in_features + self.out_features)


@dataclass(frozen=True)
class AttentionPart:
    """One self-attention. q, k and v are the same projection where the source merges them."""

    node: ir.Node
    heads: int
    kv_heads: int
    head_dim: int
    q: Projection
    k: Projection
    v: Projection
    o: Projection
    disentangled: bool = False

    @property
    def merged(self) -> bool:
        return self.q.node is self.k.node


@dataclass(frozen=True)
class FeedForward:
    """`down(act(up(x)))`, or `down(act(gate) * up)` where gated (up then holds both). `width` is the intermediate size."""

    up: Projection
    down: Projection
    activation: str
    width: int
    gated: bool


@dataclass(frozen=True)
class Block:
    """One encoder layer: an attention and the feed-forwards behind it. `other` are projections of neither part.

    Where attentions or feed-forwards were removed, a block may lack either: feed-forwards of a block without attention
    belong to the block before, and those before the first attention are a block of their own. `input` and `output` are the
    values that alone carry the text's content into and out of the block, float32 `[batch, sequence, hidden]`; None where
    several do.
    """

    index: int
    attention: AttentionPart | None
    feed_forwards: tuple[FeedForward, ...]
    other: tuple[Projection, ...] = ()
    input: ir.Value | None = None
    output: ir.Value | None = None

    @property
    def projections(self) -> tuple[Projection, ...]:
        """All of them, each once."""
        a = self.attention
        parts = ((a.q, a.k, a.v, a.o) if a else ()) + tuple(p for f in self.feed_forwards for p in (f.up, f.down))
        return tuple({p.node: p for p in (*parts, *self.other)}.values())


@dataclass(frozen=True)
class Anatomy:
    """The parts of an encoder, in order of execution. `before` are projections between embeddings and the first block."""

    blocks: tuple[Block, ...]
    embeddings: dict[str, tuple[int, ...]] = field(default_factory=dict)
    before: tuple[Projection, ...] = ()
    head: tuple[Projection, ...] = ()
    parameters: int = 0
    nbytes: int = 0

    def flops_per_token(self, length: int) -> float:
        """Floating-point operations per token in a sequence of `length` tokens, two for each multiply-add.

        Projections, the two attention products; norms and activations (well below 2 %) are not counted.
        """
        projections = sum(p.multiplications for b in self.blocks for p in b.projections)
        projections += sum(p.multiplications for p in self.before)
        attentions = [b.attention for b in self.blocks if b.attention is not None]
        return 2.0 * (projections + sum(2 * length * a.heads * a.head_dim for a in attentions))


def read_anatomy(model: ir.Model) -> Anatomy:
    """Reads the anatomy. Raises SourceError naming the first node that does not fit; a model without attention has no blocks."""
    graph = model.graph
    anchors = [n for n in nodes(graph, "Attention", "Softmax") if n.op_type == "Attention" or normalizes_scores(n)]
    depth = _depths(graph, anchors)
    attentions = [_attention(n) for n in anchors]
    taken = {n for a in attentions for p in (a.q, a.k, a.v, a.o) for n in p.nodes}
    forwards = [f for n in nodes(graph, *_ACTIVATIONS) if (f := _feed_forward(n)) is not None]
    taken |= {n for f in forwards for p in (f.up, f.down) for n in p.nodes}
    content = content_values(graph)
    free = [n for n in graph if n not in taken and is_projection(n) and n.outputs[0] in content and not _is_first(n)]
    blocks = _blocks(attentions, forwards, depth, [as_projection(n) for n in free])
    others: dict[int, list[Projection]] = {b.index: [] for b in blocks}
    before: list[Projection] = []
    head: list[Projection] = []
    for projection in map(as_projection, free):
        owner = _owner(projection, depth[projection.node], blocks)
        (others[owner] if owner is not None else head if depth[projection.node] else before).append(projection)
    blocks = [replace(b, other=tuple(others[b.index])) for b in blocks]
    borders = _borders(graph, blocks, content)
    blocks = [replace(b, input=borders[b.index], output=borders[b.index + 1]) for b in blocks]
    tensors = [v.const_value for v in graph.initializers.values() if v.const_value is not None]
    return Anatomy(
        tuple(blocks),
        _embeddings(graph),
        tuple(before),
        tuple(head),
        sum(t.size for t in tensors),
        sum(t.nbytes for t in tensors),
    )


def _blocks(
    attentions: list[AttentionPart], forwards: list[FeedForward], depth: dict[ir.Node, int], free: list[Projection]
) -> list[Block]:
    """Feed-forwards behind the attention they follow. A block without any is one whose were removed, not one that was not read."""
    blocks = []
    leading = tuple(f for f in forwards if depth[f.up.node] == 0)
    if leading:
        blocks.append(Block(0, None, leading))
    for i, attention in enumerate(attentions):
        own = tuple(f for f in forwards if depth[f.up.node] == i + 1)
        unread = [p for p in free if depth[p.node] == i + 1 and _has_residual(p)]
        if not own and unread:
            raise SourceError(
                f"block {i} (attention {attention.node.name!r}): no feed-forward follows that could be read "
                f"(projection {unread[0].node.name!r} belongs to none)"
            )
        blocks.append(Block(len(blocks), attention, own))
    return blocks


def _borders(graph: ir.Graph, blocks: list[Block], content: set[ir.Value]) -> list[ir.Value | None]:
    """What carries the content into each block, and what the last one gives: blocks + 1 values."""
    order = {node: i for i, node in enumerate(graph)}
    last = {v: order[n] for n in graph for v in n.inputs if v is not None} | dict.fromkeys(graph.outputs, len(order))
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
        if border is not None and border in [v for i, v in alone if max(span) < i]
    ]
    rest = [v for i, v in alone if spans and max(spans[-1]) < i]
    borders.append(rest[behind[-1]] if behind and behind[-1] < len(rest) else None)
    return borders


def as_projection(node: ir.Node) -> Projection:
    """A MatMul by a trained matrix, with its bias; with the one before it where the two are one matrix split."""
    node = _second(node)
    first = producer(unrounded(node.inputs[0]), "MatMul")
    first = first if first is not None and _is_first(first) else None
    weight = projection_weight(node)
    rows, columns = _matrix_shape(node)
    inputs = _matrix_shape(first)[0] if first is not None else rows
    rank = rows if first is not None else None
    return Projection(node, str(weight.name if weight else ""), inputs, columns, bias_add(node), first, rank)


def _matrix_shape(node: ir.Node) -> tuple[int, int]:
    shape = dims(node.inputs[1])
    if projection_weight(node) is None or shape is None or len(shape) != 2 or shape[0] is None or shape[1] is None:
        raise SourceError(f"node {node.name!r} (MatMul): its weight is no matrix of known size")
    return shape[0], shape[1]


def _is_first(node: ir.Node) -> bool:
    """True for the first of two trained MatMuls with nothing between: one matrix, split."""
    return _second(node) is not node


def _second(node: ir.Node) -> ir.Node:
    """The MatMul that ends a split matrix beginning at `node`; `node` itself where it is no first half."""
    if not is_projection(node) or node.outputs[0].is_graph_output():
        return node
    readers = readers_through(node.outputs[0])
    follows = len(readers) == 1 and is_projection(readers[0]) and unrounded(readers[0].inputs[0]) is node.outputs[0]
    return readers[0] if follows else node


def _depths(graph: ir.Graph, anchors: list[ir.Node]) -> dict[ir.Node, int]:
    """For each node, how many attentions lie before it; an attention's own result counts it."""
    marks = set(anchors)
    after: dict[ir.Value, int] = {}
    depth: dict[ir.Node, int] = {}
    for node in graph:
        depth[node] = max((after.get(v, 0) for v in node.inputs if v is not None), default=0)
        for out in node.outputs:
            after[out] = depth[node] + (node in marks)
    return depth


def content_values(graph: ir.Graph) -> set[ir.Value]:
    """Everything that depends on the token ids by value: not the position tables that DeBERTa projects as well."""
    known = {i for i in graph.inputs if i.name == "input_ids"}
    for node in graph:
        if node.op_type != "Shape" and any(v in known for v in node.inputs):
            known.update(node.outputs)
    return known


def _projections_behind(value: ir.Value | None) -> list[ir.Node]:
    """The nearest MatMuls by trained matrices that `value` is computed from."""

    def onward(current: ir.Value) -> Iterable[ir.Value | None]:
        node = current.producer()
        return () if node is None or is_projection(node) or node.op_type == "Shape" else node.inputs

    made_by = (v.producer() for v in reach(value, onward)) if value is not None else ()
    return list(dict.fromkeys(n for n in made_by if n is not None and is_projection(n)))


def _the_projection_behind(value: ir.Value | None, node: ir.Node, role: str) -> Projection:
    found = _projections_behind(value)
    if len(found) != 1:
        raise SourceError(f"attention {node.name!r}: its {role} comes from {len(found)} projections, one is expected")
    return as_projection(found[0])


def _attention(node: ir.Node) -> AttentionPart:
    if node.op_type == "Attention":
        heads = int(attribute(node, "q_num_heads", 0))  # type: ignore[call-overload]
        kv_heads = int(attribute(node, "kv_num_heads", heads))  # type: ignore[call-overload]
        q, k, v = (
            _the_projection_behind(node.inputs[i], node, role) for i, role in enumerate(("query", "key", "value"))
        )
        width = (dims(node.inputs[0]) or [None])[-1]
        if not heads or width is None or width % heads:
            raise SourceError(f"attention {node.name!r}: {width} query columns do not divide into {heads} heads")
        return AttentionPart(node, heads, kv_heads, width // heads, q, k, v, _after(node.outputs[0], node))
    return _disentangled(node)


def _disentangled(softmax: ir.Node) -> AttentionPart:
    """DeBERTa: content-to-content is the product whose two sides lead to one content projection each."""
    scores = softmax.inputs[0]
    shape = dims(scores)
    assert scores is not None
    weights = next((p for v in _ahead(softmax.outputs[0]) if (p := v.producer()) and p.op_type == "MatMul"), None)
    heads = shape[1] if shape and len(shape) == 4 else None
    if heads is None or weights is None:
        raise SourceError(f"attention {softmax.name!r}: its heads cannot be read from scores of shape {shape}")
    stop = {v for v in ancestors(scores) if is_projection(v.producer())}
    # Nearest first: content-to-content is added last to the scores, so it is met first.
    products = [p for v in ancestors(scores, stop) if (p := producer(v, "MatMul")) and not is_projection(p)]
    sides = [[_projections_behind(i) for i in p.inputs] for p in products]
    content = next(
        (
            s
            for s in sides
            if [len(x) for x in s] == [1, 1]
            and len(dims(s[0][0].outputs[0]) or ()) == 3
            and not _fixed(s[0][0])
            and not _fixed(s[1][0])
        ),
        None,
    )
    if content is None:
        raise SourceError(f"attention {softmax.name!r}: no product of a query and a key leads to its scores")
    q, k = as_projection(content[0][0]), as_projection(content[1][0])
    v = _the_projection_behind(weights.inputs[1], softmax, "value")
    return AttentionPart(
        softmax, heads, heads, q.out_features // heads, q, k, v, _after(weights.outputs[0], softmax), disentangled=True
    )


def _fixed(node: ir.Node) -> bool:
    """True for a projection of a table: its rows do not vary with the batch."""
    shape = dims(node.outputs[0])
    return shape is not None and all(d is not None for d in shape)


def _ahead(value: ir.Value) -> list[ir.Value]:
    """The 64 nearest values computed from `value`, nearest first."""
    return list(islice(reach(value, lambda v: (out for node in consumers(v) for out in node.outputs)), 1, 65))


def _after(value: ir.Value, node: ir.Node) -> Projection:
    """The output projection: the first trained MatMul that reads an attention's result."""
    found = next((p for v in _ahead(value) if (p := v.producer()) is not None and is_projection(p)), None)
    if found is None:
        raise SourceError(f"attention {node.name!r}: no output projection reads its result")
    return as_projection(found)


def _feed_forward(activation: ir.Node) -> FeedForward | None:
    """The feed-forward around an activation; None for an activation of a head, which no residual goes around."""
    up_nodes = _through_elementwise(activation.inputs[0], forward=False)
    down_nodes = _through_elementwise(activation.outputs[0], forward=True)
    if len(up_nodes) != 1 or len(down_nodes) != 1:
        return None
    up, down = as_projection(up_nodes[0]), as_projection(down_nodes[0])
    if not any(n.op_type in ("Add", "LayerNormalization") for n in consumers(down.output)) or not _has_residual(down):
        return None
    return FeedForward(up, down, activation.op_type, down.in_features, gated=up.out_features == 2 * down.in_features)


def _has_residual(projection: Projection) -> bool:
    return any(
        n.op_type == "Add" and not any(v is not None and v.is_initializer() for v in n.inputs)
        for n in consumers(projection.output)
    )


def _through_elementwise(value: ir.Value | None, *, forward: bool) -> list[ir.Node]:
    """Trained MatMuls next to `value`, with nothing but element-wise nodes between."""
    found: dict[ir.Node, None] = {}
    seen: set[ir.Value] = set()
    queue = [value] if value is not None else []
    while queue:
        current = queue.pop(0)
        if current in seen:
            continue
        seen.add(current)
        made_by = current.producer()
        for node in consumers(current) if forward else [made_by] if made_by is not None else []:
            if is_projection(node):
                found[node] = None
            elif node.op_type in _ELEMENTWISE:
                queue.extend(v for v in (node.outputs if forward else node.inputs) if v is not None)
            else:
                return []
    return list(found)


def _owner(projection: Projection, depth: int, blocks: list[Block]) -> int | None:
    """The block a further projection belongs to: by its name where names tell, else by where it lies."""
    for block in blocks:
        parts = (*([block.attention.q] if block.attention else []), *[f.down for f in block.feed_forwards[-1:]])
        prefix = _common_module([p.weight for p in parts]) if len(parts) == 2 else ""
        if prefix and projection.weight.startswith(prefix + "."):
            return block.index
    if 0 < depth < len(blocks) or (depth == len(blocks) and _has_residual(projection)):
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
    """Tables that a Gather reads: name → shape."""
    tables = {}
    for node in nodes(graph, "Gather"):
        table = node.inputs[0]
        shape = dims(table)
        if table is not None and table.is_initializer() and shape is not None and len(shape) == 2 and shape[1] != 1:
            tables[str(table.name)] = tuple(d or 0 for d in shape)
    return tables


def describe(anatomy: Anatomy) -> dict[str, Any]:
    """The anatomy as plain numbers, for the manifest and `headway inspect`."""
    return {
        "parameters": anatomy.parameters,
        "bytes": anatomy.nbytes,
        "embeddings": {k: list(v) for k, v in anatomy.embeddings.items()},
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
                "ranks": {p.weight: p.rank for p in b.projections if p.rank is not None},
            }
            for b in anatomy.blocks
        ],
        "gflops_per_token_at_128": anatomy.flops_per_token(128) / 1e9,
    }
