"""Check that TensorRT computes a quantized graph in int8: quantization that it does not fuse makes the graph slower.

Source: TensorRT documentation, "Explicit Quantization": symmetric, zero point 0, one scale per tensor for activations and one per
column for weights, on both inputs of a matmul. A graph with quantized weights alone (int8, or int4 in blocks) is accepted too: it is
smaller, and computed in the float dtype.
"""

import numpy as np
import onnx_ir as ir

from ...graph.edit import attribute_int, constant, consumers, is_projection, nodes, producer

_MOVES = ("Reshape", "Transpose", "Cast")


def problems_of(graph: ir.Graph) -> list[str]:
    """Return what is wrong with the QuantizeLinear and DequantizeLinear nodes, each in a sentence that names the node."""
    problems = []
    for node in nodes(graph, "QuantizeLinear", "DequantizeLinear"):
        problems += _parameters(node)
    for node in nodes(graph, "QuantizeLinear"):
        problems += _pair(node)
    for value in graph.initializers.values():
        if value.dtype in (ir.DataType.INT8, ir.DataType.INT4):
            problems += _constant(value)
    matmuls = {node: [dequantized(v) for v in node.inputs] for node in nodes(graph, "MatMul")}
    weight_only = not any(sides[0] for sides in matmuls.values())
    for node, sides in matmuls.items():
        float_softmax = producer(node.inputs[0], "Softmax") is not None
        if any(sides) and not all(sides) and not weight_only and not float_softmax:
            which = "second" if sides[0] else "first"
            problems.append(f"{node.name}: the {which} input is not quantized, the other is: the matmul is not int8")
        weight = producer(node.inputs[1], "DequantizeLinear")
        if weight is not None and is_projection(node):
            problems += _weight(node, weight)
    return problems


def dequantized(value: ir.Value | None) -> bool:
    """Return whether a value comes from a DequantizeLinear, possibly reshaped or transposed."""
    node = producer(value, "DequantizeLinear", *_MOVES)
    while node is not None and node.op_type != "DequantizeLinear":
        node = producer(node.inputs[0], "DequantizeLinear", *_MOVES)
    return node is not None


def _parameters(node: ir.Node) -> list[str]:
    scale, zero = constant(node.inputs[1]), constant(node.inputs[2]) if len(node.inputs) > 2 else None
    if scale is None:
        return [f"{node.name}: its scale is computed, a constant is needed"]
    problems = []
    steps = scale.astype(np.float64)
    if not (np.isfinite(steps).all() and (steps > 0).all()):
        problems.append(f"{node.name}: a scale is not a positive number")
    if zero is None and node.op_type == "QuantizeLinear":
        problems.append(f"{node.name}: without a zero point it makes uint8, int8 is needed")
    if zero is not None and zero.dtype != np.int8:
        problems.append(f"{node.name}: {zero.dtype}, int8 is needed")
    elif zero is not None and zero.any():
        problems.append(f"{node.name}: zero point {int(zero.ravel()[np.argmax(zero != 0)])}, 0 is needed")
    weight = node.inputs[0] is not None and node.inputs[0].is_initializer()
    if steps.size > 1 and not weight:
        problems.append(f"{node.name}: {steps.size} scales for an activation, one is needed")
    return problems


def _pair(node: ir.Node) -> list[str]:
    readers = consumers(node.outputs[0])
    problems = [
        f"{node.name}: {r.op_type} {r.name} reads int8 itself" for r in readers if r.op_type != "DequantizeLinear"
    ]
    step = constant(node.inputs[1])
    for reader in readers:
        other = constant(reader.inputs[1]) if reader.op_type == "DequantizeLinear" else step
        if step is not None and other is not None and not np.array_equal(step, other):
            problems.append(f"{node.name}: quantizes with another scale than {reader.name} dequantizes with")
    return problems


def _constant(value: ir.Value) -> list[str]:
    others = [n for n in consumers(value) if n.op_type not in ("QuantizeLinear", "DequantizeLinear")]
    return [f"{value.name}: {n.op_type} {n.name} reads integers, which only DequantizeLinear may" for n in others]


def _weight(matmul: ir.Node, node: ir.Node) -> list[str]:
    scale, weight = constant(node.inputs[1]), node.inputs[0]
    if scale is None or weight is None or weight.shape is None or scale.size == 1 or "block_size" in node.attributes:
        return []
    axis = attribute_int(node, "axis", 1) % len(weight.shape)
    if axis != len(weight.shape) - 1:
        return [f"{matmul.name}: the weights have one scale per row, one per column is needed"]
    return []
