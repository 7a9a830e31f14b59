"""Read the parts of a block: an attention with its four projections, a feed-forward with its two."""

from dataclasses import dataclass

import onnx_ir as ir

from ...errors import SourceError
from .edit import attribute_int, consumers, dims, is_projection
from .projections import Projection, as_projection, has_residual, projection_after, projection_behind

ACTIVATIONS = ("Gelu", "Relu", "Tanh", "Sigmoid", "Swish", "Mish", "Elu", "LeakyRelu", "HardSwish", "Softplus")
_ROUNDING = ("QuantizeTokens", "QuantizeLinear", "DequantizeLinear")
_ELEMENTWISE = (*ACTIVATIONS, *_ROUNDING, "Add", "Mul", "Split", "Slice", "Identity", "Cast")


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
    """`down(act(up(x)))`, or `down(act(gate) * up)` where gated (up then holds both). `width` is the intermediate size."""

    up: Projection
    down: Projection
    activation: str
    width: int
    gated: bool


def read_attention(node: ir.Node) -> AttentionPart:
    """Read a canonical `Attention`. SourceError names the node where a projection is missing or not the only one."""
    heads = attribute_int(node, "q_num_heads", 0)
    kv_heads = attribute_int(node, "kv_num_heads", heads)
    q, k, v = (projection_behind(node.inputs[i], node, role) for i, role in enumerate(("query", "key", "value")))
    width = (dims(node.inputs[0]) or [None])[-1]
    if not heads or width is None or width % heads:
        raise SourceError(f"attention {node.name!r}: {width} query columns do not divide into {heads} heads")
    return AttentionPart(node, heads, kv_heads, width // heads, q, k, v, projection_after(node.outputs[0], node))


def read_feed_forward(activation: ir.Node) -> FeedForward | None:
    """Read the feed-forward around an activation; None for an activation of a task head, which no residual goes around."""
    up_nodes = _through_elementwise(activation.inputs[0], forward=False)
    down_nodes = _through_elementwise(activation.outputs[0], forward=True)
    if len(up_nodes) != 1 or len(down_nodes) != 1:
        return None
    up, down = as_projection(up_nodes[0]), as_projection(down_nodes[0])
    if not any(n.op_type in ("Add", "LayerNormalization") for n in consumers(down.output)) or not has_residual(down):
        return None
    return FeedForward(up, down, activation.op_type, down.in_features, gated=up.out_features == 2 * down.in_features)


def _through_elementwise(value: ir.Value | None, *, forward: bool) -> list[ir.Node]:
    """Return the trained MatMuls next to `value`, with nothing but element-wise nodes between."""
    matmuls: dict[ir.Node, None] = {}
    visited: set[ir.Value] = set()
    queue = [value] if value is not None else []
    while queue:
        current = queue.pop(0)
        if current in visited:
            continue
        visited.add(current)
        before = current.producer()
        for node in consumers(current) if forward else [before] if before is not None else []:
            if is_projection(node):
                matmuls[node] = None
            elif node.op_type in _ELEMENTWISE:
                queue.extend(v for v in (node.outputs if forward else node.inputs) if v is not None)
            else:
                return []
    return list(matmuls)
