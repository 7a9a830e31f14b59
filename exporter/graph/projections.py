"""Find projections: matmuls by trained weights with their bias, from a node or a value near them."""

from collections.abc import Iterable
from dataclasses import dataclass
from itertools import islice

import onnx_ir as ir

from ...errors import SourceError
from .edit import bias_add, consumers, dims, is_projection, producer, projection_weight, reach
from .quantized import readers_through, unrounded

_NORM_PARTS = (
    *("LayerNormalization", "RMSNormalization", "Cast", "Pow", "ReduceMean", "Sqrt", "Reciprocal", "Mul", "Div", "Add"),
    *("QuantizeLinear", "DequantizeLinear", "Identity"),
)
_LARGEST_NORM = 16
"""Operators of a norm that is written out, and more than it has."""


@dataclass(frozen=True)
class Projection:
    """`y = x W + b`: the MatMul, its weight's name and its sizes.

    Where W is factored, `y = (x A) B + b`: `first` is the MatMul by A, `node` and `weight` are those of B, and `rank` is the
    size between. `in_features` and `out_features` are always those of W.
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
        """What it reads, float32 `[batch, sequence, in_features]`."""
        value = (self.first or self.node).inputs[0]
        assert value is not None
        return value

    @property
    def output(self) -> ir.Value:
        """What it gives, its bias included."""
        return (self.bias or self.node).outputs[0]

    @property
    def nodes(self) -> tuple[ir.Node, ...]:
        """Its one or two MatMuls, in order."""
        return (self.node,) if self.first is None else (self.first, self.node)

    @property
    def multiplications(self) -> int:
        """Multiply-adds for one token."""
        if self.rank is None:
            return self.in_features * self.out_features
        return self.rank * (self.in_features + self.out_features)


def as_projection(node: ir.Node) -> Projection:
    """Return the projection of a MatMul by a trained weight; of both MatMuls where the weight is factored into two."""
    node = second_half(node)
    first = producer(unrounded(node.inputs[0]), "MatMul")
    first = first if first is not None and is_first_half(first) else None
    weight = projection_weight(node)
    rows, columns = _matrix_shape(node)
    inputs = _matrix_shape(first)[0] if first is not None else rows
    rank = rows if first is not None else None
    return Projection(node, str(weight.name if weight else ""), inputs, columns, bias_add(node), first, rank)


def _matrix_shape(node: ir.Node) -> tuple[int, int]:
    shape = dims(node.inputs[1])
    if projection_weight(node) is None or shape is None or len(shape) != 2 or shape[0] is None or shape[1] is None:
        raise SourceError(f"node {node.name!r} (MatMul): its weight has no two known sizes")
    return shape[0], shape[1]


def is_first_half(node: ir.Node) -> bool:
    """Return True for the first of two trained MatMuls with nothing between: one weight factored into two."""
    return second_half(node) is not node


def second_half(node: ir.Node) -> ir.Node:
    """Return the second MatMul of a factored weight whose first is `node`; `node` itself where it is no first half."""
    if not is_projection(node) or node.outputs[0].is_graph_output():
        return node
    readers = readers_through(node.outputs[0])
    follows = len(readers) == 1 and is_projection(readers[0]) and unrounded(readers[0].inputs[0]) is node.outputs[0]
    return readers[0] if follows else node


def projections_behind(value: ir.Value | None) -> list[ir.Node]:
    """Return the nearest MatMuls by trained weights that `value` is computed from."""

    def onward(current: ir.Value) -> Iterable[ir.Value | None]:
        node = current.producer()
        return () if node is None or is_projection(node) or node.op_type == "Shape" else node.inputs

    producers = (v.producer() for v in reach(value, onward)) if value is not None else ()
    return list(dict.fromkeys(n for n in producers if n is not None and is_projection(n)))


def projection_behind(value: ir.Value | None, node: ir.Node, role: str) -> Projection:
    """Return the one projection that an attention's query, key or value comes from. SourceError where there are several."""
    matmuls = projections_behind(value)
    if len(matmuls) != 1:
        raise SourceError(f"attention {node.name!r}: its {role} comes from {len(matmuls)} projections, one is expected")
    return as_projection(matmuls[0])


def values_ahead(value: ir.Value) -> list[ir.Value]:
    """Return the 64 nearest values computed from `value`, nearest first."""
    return list(islice(reach(value, lambda v: (out for node in consumers(v) for out in node.outputs)), 1, 65))


def projection_after(value: ir.Value, node: ir.Node) -> Projection:
    """Return the output projection: the first trained MatMul behind an attention's result `value`."""
    matmul = next((p for v in values_ahead(value) if (p := v.producer()) is not None and is_projection(p)), None)
    if matmul is None:
        raise SourceError(f"attention {node.name!r}: no output projection reads its result")
    return as_projection(matmul)


def has_residual(projection: Projection) -> bool:
    """Return True where the result, or the norm of it alone, is added to another computed value."""
    reached = {projection.output}
    queue = [projection.output]
    while queue:
        for node in consumers(queue.pop()):
            if node.op_type == "Add" and any(
                v is not None and v not in reached and not v.is_initializer() and _as_wide(v, projection)
                for v in node.inputs
            ):
                return True
            if node.op_type in _NORM_PARTS and not reached.issuperset(node.outputs) and len(reached) < _LARGEST_NORM:
                reached.update(node.outputs)
                queue += node.outputs
    return False


def _as_wide(value: ir.Value, projection: Projection) -> bool:
    """Return True for a value of as many features as the projection gives: no epsilon, and no mean."""
    return (dims(value) or [None])[-1] in (None, projection.out_features)
