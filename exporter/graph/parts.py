"""Read the parts of a block: an attention with its four projections, a feed-forward with its two."""

from dataclasses import dataclass

import onnx_ir as ir

from ...errors import SourceError
from .edit import ancestors, attribute_int, consumers, dims, is_projection
from .projections import Projection, as_projection, has_residual, projection_after, projection_behind

ACTIVATIONS = ("Gelu", "Relu", "Tanh", "Sigmoid", "Swish", "Mish", "Elu", "LeakyRelu", "HardSwish", "Softplus")
_ROUNDING = ("QuantizeTokens", "QuantizeLinear", "DequantizeLinear")
_ELEMENTWISE = (*ACTIVATIONS, *_ROUNDING, "Add", "Mul", "Split", "Slice", "Identity", "Cast")


UNREAD = "not_read"
"""Where a node's `meta` says why canonicalization left an attention as it came."""


NO_FORM = "it normalizes scores that are no known form of q times k"


@dataclass(frozen=True)
class UnreadAttention:
    """An attention of no known form: its node, why, and the projections that are next to it."""

    node: ir.Node
    why: str
    projections: tuple[Projection, ...]


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
        """Whether query, key and value are one projection."""
        return self.q.node is self.k.node


@dataclass(frozen=True)
class FeedForward:
    """`down(act(up(x)))`, or gated: the activations are multiplied with a second projection of x. `width` is the intermediate size.

    Where gated, `up` holds both halves if they are one weight; if they are two, `up` is the one that is activated, and
    `factor` the other.
    """

    up: Projection
    down: Projection
    activation: str
    width: int
    gated: bool
    factor: Projection | None = None

    @property
    def before(self) -> tuple[Projection, ...]:
        """The projections that the activations come from: one, or two where a gate is a weight of its own."""
        return (self.up,) if self.factor is None else (self.up, self.factor)

    @property
    def projections(self) -> tuple[Projection, ...]:
        """All projections, in order."""
        return (*self.before, self.down)


def read_attention(node: ir.Node) -> AttentionPart:
    """Read a canonical `Attention`. SourceError names the node where a projection is missing or not the only one."""
    heads = attribute_int(node, "q_num_heads", 0)
    kv_heads = attribute_int(node, "kv_num_heads", heads)
    q, k, v = (projection_behind(node.inputs[i], node, role) for i, role in enumerate(("query", "key", "value")))
    width = (dims(node.inputs[0]) or [None])[-1]
    if not heads or width is None or width % heads:
        raise SourceError(f"attention {node.name!r}: {width} query columns do not divide into {heads} heads")
    _check_widths(node, (q, k, v))
    _check_readers(node, (q, k, v))
    return AttentionPart(node, heads, kv_heads, width // heads, q, k, v, projection_after(node.outputs[0], node))


def _check_widths(node: ir.Node, projections: tuple[Projection, ...]) -> None:
    """Raise SourceError where a projection does not give as many columns as the attention reads: something else lies between."""
    widths = [(dims(value) or [None])[-1] for value in node.inputs[:3]]
    for projection in dict.fromkeys(projections):
        read = sum(w or 0 for p, w in zip(projections, widths, strict=True) if p == projection)
        if projection.out_features != read and None not in widths:
            raise SourceError(
                f"attention {node.name!r}: projection {projection.weight!r} gives {projection.out_features} columns, {read} are read"
            )


def _check_readers(node: ir.Node, projections: tuple[Projection, ...]) -> None:
    """Raise SourceError where a query, key or value is also read beside the attention: it could not be cut with the heads."""
    outputs = dict.fromkeys(p.output for p in projections)
    leading = {n for v in node.inputs[:3] if v is not None for a in ancestors(v, stop=outputs) if (n := a.producer())}
    visited, queue = set(outputs), list(outputs)
    while queue:
        for reader in consumers(queue.pop()):
            if reader is node or reader.op_type == "Shape":
                continue
            if reader not in leading:
                raise SourceError(f"node {reader.name!r} ({reader.op_type}) reads its query, key or value beside it")
            for out in reader.outputs:
                if out not in visited:
                    visited.add(out)
                    queue.append(out)


def read_feed_forward(activation: ir.Node, neighbors: "NearestMatmuls | None" = None) -> FeedForward | None:
    """Read the feed-forward around an activation; None for an activation of a task head, which no residual goes around.

    `neighbors` keeps what was found for other activations of the graph.
    """
    neighbors = neighbors or NearestMatmuls()
    x = activation.inputs[0]
    up_nodes = neighbors.before(x) if x is not None else None
    down_nodes = neighbors.behind(activation.outputs[0])
    if up_nodes is None or down_nodes is None or len(up_nodes) != 1 or len(down_nodes) != 1:
        return None
    up, down = as_projection(*up_nodes), as_projection(*down_nodes)
    if not has_residual(down):
        return None
    width = down.in_features
    sources = neighbors.before(down.input) or frozenset()
    others = [as_projection(n) for n in sources if n not in up.nodes]
    if not others:
        return FeedForward(up, down, activation.op_type, width, gated=up.out_features == 2 * width)
    if len(others) > 1 or {up.out_features, others[0].out_features} != {width}:
        return None
    return FeedForward(up, down, activation.op_type, width, gated=True, factor=others[0])


class NearestMatmuls:
    """Find the trained MatMuls next to a value, with nothing but element-wise nodes between.

    Each value of a graph is looked at once, whatever is asked: chains of element-wise nodes take linear time. The graph must
    not change in between.
    """

    def __init__(self) -> None:
        self._known: dict[bool, dict[ir.Value, frozenset[ir.Node] | None]] = {False: {}, True: {}}

    def before(self, value: ir.Value) -> frozenset[ir.Node] | None:
        """Return those that `value` is computed from, at most two; None where another node lies between."""
        return self._nearest(value, forward=False)

    def behind(self, value: ir.Value) -> frozenset[ir.Node] | None:
        """Return those that read `value`, at most two; None where another node reads it as well."""
        return self._nearest(value, forward=True)

    def _nearest(self, value: ir.Value, *, forward: bool) -> frozenset[ir.Node] | None:
        known = self._known[forward]
        waiting = [value]
        while waiting:
            current = waiting[-1]
            neighbors = _neighbors(current, forward)
            onward = [v for n in neighbors if n.op_type in _ELEMENTWISE for v in _onward(n, forward) if v not in known]
            if onward and current not in known:
                waiting += onward
            else:
                waiting.pop()
                known[current] = _merged(neighbors, known, forward)
        return known[value]


def _neighbors(value: ir.Value, forward: bool) -> list[ir.Node]:
    before = value.producer()
    return consumers(value) if forward else [before] if before is not None else []


def _onward(node: ir.Node, forward: bool) -> list[ir.Value]:
    return [v for v in (node.outputs if forward else node.inputs) if v is not None]


def _merged(
    neighbors: list[ir.Node], known: dict[ir.Value, frozenset[ir.Node] | None], forward: bool
) -> frozenset[ir.Node] | None:
    merged: frozenset[ir.Node] = frozenset()
    for node in neighbors:
        if is_projection(node):
            merged |= {node}
        elif node.op_type not in _ELEMENTWISE:
            return None
        else:
            for value in _onward(node, forward):
                further = known[value]
                if further is None:
                    return None
                merged = merged if len(merged) > 1 else merged | further  # more than one is one too many
    return merged
