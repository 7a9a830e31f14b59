"""Is a quantized graph one that TensorRT computes in int8? What it does not fuse, it computes slower than without.

Source: TensorRT documentation, "Explicit Quantization": symmetric, zero point 0, one step a tensor for activations and one a
column for weights, both inputs of a product. A graph that rounds weights alone (int8, or int4 in blocks) is of a kind of its
own: smaller, and computed in the float dtype.
"""

import numpy as np
import onnx_ir as ir

from ...graph.edit import attribute, constant, consumers, is_projection, nodes, producer

_MOVES = ("Reshape", "Transpose", "Cast")


def lint(graph: ir.Graph) -> list[str]:
    """What is wrong with the QuantizeLinear and DequantizeLinear nodes, each in a sentence that names the node."""
    found = []
    for node in nodes(graph, "QuantizeLinear", "DequantizeLinear"):
        found += _parameters(node)
    for node in nodes(graph, "QuantizeLinear"):
        found += _pair(node)
    for value in graph.initializers.values():
        if value.dtype in (ir.DataType.INT8, ir.DataType.INT4):
            found += _constant(value)
    products = {node: [dequantized(v) for v in node.inputs] for node in nodes(graph, "MatMul")}
    weight_only = not any(sides[0] for sides in products.values())
    for node, sides in products.items():
        float_softmax = producer(node.inputs[0], "Softmax") is not None
        if any(sides) and not all(sides) and not weight_only and not float_softmax:
            which = "second" if sides[0] else "first"
            found.append(f"{node.name}: the {which} input is not quantized, the other is: the product is not int8")
        weight = producer(node.inputs[1], "DequantizeLinear")
        if weight is not None and is_projection(node):
            found += _weight(node, weight)
    return found


def dequantized(value: ir.Value | None) -> bool:
    """True for what a DequantizeLinear makes, moved about or not."""
    node = producer(value, "DequantizeLinear", *_MOVES)
    while node is not None and node.op_type != "DequantizeLinear":
        node = producer(node.inputs[0], "DequantizeLinear", *_MOVES)
    return node is not None


def _parameters(node: ir.Node) -> list[str]:
    scale, zero = constant(node.inputs[1]), constant(node.inputs[2]) if len(node.inputs) > 2 else None
    if scale is None:
        return [f"{node.name}: its step is computed, a constant is needed"]
    found = []
    steps = scale.astype(np.float64)
    if not (np.isfinite(steps).all() and (steps > 0).all()):
        found.append(f"{node.name}: a step is not a positive number")
    if zero is None and node.op_type == "QuantizeLinear":
        found.append(f"{node.name}: without a zero point it makes uint8, int8 is needed")
    if zero is not None and zero.dtype != np.int8:
        found.append(f"{node.name}: {zero.dtype}, int8 is needed")
    elif zero is not None and zero.any():
        found.append(f"{node.name}: zero point {int(zero.ravel()[np.argmax(zero != 0)])}, 0 is needed")
    weight = node.inputs[0] is not None and node.inputs[0].is_initializer()
    if steps.size > 1 and not weight:
        found.append(f"{node.name}: {steps.size} steps for an activation, one is needed")
    return found


def _pair(node: ir.Node) -> list[str]:
    readers = consumers(node.outputs[0])
    found = [f"{node.name}: {r.op_type} {r.name} reads int8 itself" for r in readers if r.op_type != "DequantizeLinear"]
    step = constant(node.inputs[1])
    for reader in readers:
        other = constant(reader.inputs[1]) if reader.op_type == "DequantizeLinear" else step
        if step is not None and other is not None and not np.array_equal(step, other):
            found.append(f"{node.name}: quantizes with another step than {reader.name} takes back")
    return found


def _constant(value: ir.Value) -> list[str]:
    others = [n for n in consumers(value) if n.op_type not in ("QuantizeLinear", "DequantizeLinear")]
    return [f"{value.name}: {n.op_type} {n.name} reads whole numbers, which only DequantizeLinear may" for n in others]


def _weight(product: ir.Node, node: ir.Node) -> list[str]:
    scale, weight = constant(node.inputs[1]), node.inputs[0]
    if scale is None or weight is None or weight.shape is None or scale.size == 1 or "block_size" in node.attributes:
        return []
    axis = int(attribute(node, "axis", 1)) % len(weight.shape)  # type: ignore[call-overload]
    if axis != len(weight.shape) - 1:
        return [f"{product.name}: the weight has one step a row, one a column is needed"]
    return []
