"""Lower matmuls by float32 weights, and embeddings, to bfloat16 weights: half the bytes, in files and in memory.

A matmul becomes Headway's own `Bfloat16Linear`, two with an activation function between `Bfloat16FeedForward`; both include bias and
residual. They sum in float32, and results stay float32. Weights are rounded to nearest even while the file is written, one at a time.
Embeddings are stored in bfloat16, and the rows that are looked up are cast back.
"""

from dataclasses import dataclass

import ml_dtypes
import onnx_ir as ir

from ....kernels.cpu import DOMAIN
from ...graph.anatomy import content_values
from ...graph.edit import attribute_string, cast_back, consumers, nodes, put, remove_unused
from ...graph.quantized import is_lookup
from .linear_fusion import layer_of, next_layer

LEAST_SIDE = 16
"""A weight with fewer inputs or outputs stays float32: nothing would be saved, and panels of columns would be mostly empty."""


@dataclass
class Bfloat16:
    """How many matmuls became which operator, and how many embeddings are stored in bfloat16."""

    bfloat16_linear: int = 0
    bfloat16_feed_forward: int = 0
    bfloat16_embeddings: int = 0


def lower_bfloat16(model: ir.Model) -> Bfloat16:
    """Lower every matmul by a float32 weight and every lookup in float32 embeddings, in place; integers stay as they are."""
    graph = model.graph
    counts = Bfloat16()
    rounded: dict[ir.Value, ir.Value] = {}
    for node in nodes(graph, "MatMul"):
        x, weight = node.inputs
        if node.domain == "" and x is not None and x.dtype == ir.DataType.FLOAT and _is_large(weight):
            _linear(node, _rounded(graph, weight, rounded))
            counts.bfloat16_linear += 1
    content = content_values(graph)
    for node in nodes(graph, "Gather"):
        table, rows = node.inputs[0], node.outputs[0]
        # Only what is looked up by the ids of tokens: biases by position are few, and are added to scores.
        # A table that something else reads too, as a tied output head, would be stored twice.
        if table is None or any(reader.op_type != "Gather" for reader in consumers(table)):
            continue
        if _is_large(table) and is_lookup(node, table) and rows in content and consumers(rows):
            node.replace_input_with(0, _rounded(graph, table, rounded))
            name = str(rows.name)
            rows.name, rows.type = f"{name}.bfloat16", ir.TensorType(ir.DataType.BFLOAT16)
            cast_back(graph, rows, consumers(rows), name)
            counts.bfloat16_embeddings += 1
    remove_unused(model)  # what went into an operator would still count as a reader
    for node in nodes(graph, "Bfloat16Linear"):
        if _feed_forward(node):
            counts.bfloat16_feed_forward += 1
            counts.bfloat16_linear -= 2
    if counts.bfloat16_linear or counts.bfloat16_feed_forward:
        graph.opset_imports[DOMAIN] = 1
    for weight, half in rounded.items():
        name = str(weight.name)
        if name not in graph.initializers:  # nothing reads the float32 weight any more
            del graph.initializers[str(half.name)]
            half.name = name
            graph.register_initializer(half)
    return counts


def _is_large(weight: ir.Value | None) -> bool:
    """Return whether a value is a trained float32 matrix that bfloat16 saves bytes of."""
    if weight is None or not weight.is_initializer() or weight.dtype != ir.DataType.FLOAT or weight.shape is None:
        return False
    return len(weight.shape) == 2 and all(isinstance(side, int) and side >= LEAST_SIDE for side in weight.shape)


def _rounded(graph: ir.Graph, weight: ir.Value | None, known: dict[ir.Value, ir.Value]) -> ir.Value:
    """Return a weight in bfloat16, which is computed when it is written."""
    assert weight is not None and weight.const_value is not None and weight.shape is not None
    if weight not in known:
        source, name = weight.const_value, f"{weight.name}.bfloat16"
        kind = ir.DataType.BFLOAT16

        def rounding() -> ir.TensorProtocol:
            return ir.Tensor(source.numpy().astype(ml_dtypes.bfloat16), dtype=kind, name=name)

        tensor = ir.LazyTensor(rounding, dtype=kind, shape=ir.Shape(weight.shape), name=name)
        half = ir.Value(name=name, shape=ir.Shape(weight.shape), type=ir.TensorType(kind), const_value=tensor)
        graph.register_initializer(half)
        known[weight] = half
    return known[weight]


def _linear(node: ir.Node, weight: ir.Value) -> None:
    layer = layer_of(node)
    inputs = [node.inputs[0], weight, layer.bias, layer.residual]
    put(layer.last, layer.result, "Bfloat16Linear", inputs, domain=DOMAIN, activation=layer.activation)


def _feed_forward(up: ir.Node) -> bool:
    """Fuse two layers with nothing but an activation function between; return whether that was possible."""
    down = next_layer(up, bias=2)
    if down is None:
        return False
    inputs = [*up.inputs[:3], *down.inputs[1:]]
    activation = attribute_string(up, "activation")
    put(down, down.outputs[0], "Bfloat16FeedForward", inputs, domain=DOMAIN, activation=activation)
    return True
