"""How the canonical graph holds whole numbers: plain ONNX that every target can read, and one function written in plain ONNX.

A matrix is `MatMul(x, DequantizeLinear(W int8 [in, out], scale))`; a table is a lookup of int8 rows and of their scales. A
value with a fixed range passes through `QuantizeLinear` and `DequantizeLinear`. A value whose range is found as it
comes passes through the function `headway.QuantizeTokens`: each token has a range of its own, so that a text's answer
depends neither on what else is in its batch nor on padding.
"""

import numpy as np
import onnx_ir as ir

from ...calibration.rounding import QuantizedMatrix
from .edit import consumers, dims, first_of, initializer, insert, producer

DOMAIN = "headway"
TOKENS = "QuantizeTokens"
_OPSET = 23
_STEPS = 255.0


def tokens_function() -> ir.Function:
    """`y = QuantizeTokens(x)`: float32 `[…, features]`, rounded to 256 levels between the least and the largest of each row.

    The range always holds 0. `scale = (high - low) / 255`, `zero = round(-low / scale)`, `q = clip(round(x / scale) + zero, 0,
    255)`, `y = (q - zero) scale`: the arithmetic of `DynamicQuantizeLinear`, ONNX operator specification, row by row.
    """
    x = ir.Value(name="x", type=ir.TensorType(ir.DataType.FLOAT))

    def constant(name: str, array: float | list[int], dtype: ir.DataType) -> ir.Node:
        node = ir.node("Constant", [], attributes={"value": ir.tensor(array, dtype=dtype)}, name=name)
        node.outputs[0].name = name
        return node

    made: list[ir.Node] = []

    def op(op_type: str, *inputs: ir.Value, name: str, **attributes: object) -> ir.Value:
        node = ir.node(op_type, list(inputs), attributes=attributes, name=name)  # type: ignore[arg-type]
        node.outputs[0].name = name
        made.append(node)
        return node.outputs[0]

    def number(name: str, value: float) -> ir.Value:
        made.append(constant(name, value, ir.DataType.FLOAT))
        return made[-1].outputs[0]

    made.append(constant("last", [-1], ir.DataType.INT64))
    last = made[-1].outputs[0]
    none, one, steps = number("none", 0.0), number("one", 1.0), number("steps", _STEPS)
    low = op("Min", op("ReduceMin", x, last, name="least", keepdims=1), none, name="low")
    high = op("Max", op("ReduceMax", x, last, name="largest", keepdims=1), none, name="high")
    given = op("Div", op("Sub", high, low, name="span"), steps, name="given")
    scale = op("Where", op("Equal", given, none, name="flat"), one, given, name="scale")
    zero = op("Round", op("Neg", op("Div", low, scale, name="lowest"), name="shift"), name="zero")
    q = op("Add", op("Round", op("Div", x, scale, name="levels"), name="whole"), zero, name="shifted")
    q = op("Min", op("Max", q, none, name="floored"), steps, name="q")
    y = op("Mul", op("Sub", q, zero, name="centred"), scale, name="y")
    graph = ir.Graph([x], [y], nodes=made, opset_imports={"": _OPSET}, name=TOKENS)
    return ir.Function(DOMAIN, TOKENS, graph=graph, attributes=[])


def matrix_of(node: ir.Node) -> tuple[ir.Value, ir.Value] | None:
    """`q, scale` of a MatMul by a quantized matrix; None of another node."""
    made = producer(node.inputs[1], "DequantizeLinear") if node.op_type == "MatMul" else None
    if made is None or made.inputs[0] is None or made.inputs[1] is None:
        return None
    q, scale = made.inputs[0], made.inputs[1]
    return (q, scale) if q.is_initializer() and scale.is_initializer() and len(dims(q) or ()) == 2 else None


def rounded_from(value: ir.Value | None) -> ir.Value | None:
    """What a value was before it was rounded, by fixed range or by token; None of a value that was not."""
    tokens = producer(value, TOKENS)
    if tokens is not None:
        return tokens.inputs[0]
    back = producer(value, "DequantizeLinear")
    there = producer(back.inputs[0], "QuantizeLinear") if back is not None else None
    return there.inputs[0] if there is not None else None


def unrounded(value: ir.Value | None) -> ir.Value | None:
    """A value before it was rounded; the value itself where it was not."""
    before = rounded_from(value)
    return value if before is None else before


def readers_through(value: ir.Value) -> list[ir.Node]:
    """Nodes that read a value, or its rounded form."""
    found: list[ir.Node] = []
    for node in consumers(value):
        if node.op_type in (TOKENS, "QuantizeLinear", "DequantizeLinear"):
            found += readers_through(node.outputs[0])
        else:
            found.append(node)
    return found


def is_quantized(model: ir.Model) -> bool:
    """True where any matrix or table of the model is held in whole numbers."""
    return any(v.dtype in (ir.DataType.INT8, ir.DataType.INT4) for v in model.graph.initializers.values())


def fixed_scale(low: float, high: float, *, signed: bool) -> tuple[np.ndarray, np.ndarray]:
    """Scale (float32) and zero point (int8 0, or uint8) of a range, which is widened to hold 0. What is
    nothing but 0 gets scale 1."""
    low, high = min(low, 0.0), max(high, 0.0)
    scale = np.float32(max(-low, high) / 127 if signed else (high - low) / 255)
    if scale < np.finfo(np.float32).tiny:
        scale, low = np.float32(1.0), 0.0
    if signed:
        return np.array(scale), np.array(0, np.int8)
    return np.array(scale), np.array(np.clip(np.rint(-low / scale), 0, 255), np.uint8)


def hold_matrix(graph: ir.Graph, weight: ir.Value, matrix: QuantizedMatrix) -> None:
    """Makes a float initializer, read by products alone, a matrix of whole numbers with its scales."""
    readers = consumers(weight)
    scale = initializer(graph, f"{weight.name}_scale", matrix.scale)
    shape = list(weight.shape) if weight.shape is not None else None
    set_whole(weight, matrix.q, matrix.bits)
    block = {"axis": 1} if matrix.block is None else {"axis": 0, "block_size": matrix.block}
    back = insert(
        first_of(graph, readers),
        "DequantizeLinear",
        [weight, scale],
        name=f"{weight.name}.dequantized",
        dtype=ir.DataType.FLOAT,
        shape=shape,
        **block,  # type: ignore[arg-type]
    )
    for reader in readers:
        reader.replace_input_with(1, back)


def set_whole(weight: ir.Value, q: np.ndarray, bits: int) -> None:
    """Gives an initializer whole numbers, int8 `[in, out]`, as its content: stored as int8, or as int4 where `bits` are 4 or fewer."""
    dtype = ir.DataType.INT8 if bits > 4 else ir.DataType.INT4
    array = q if bits > 4 else q.astype(dtype.numpy())
    weight.const_value = ir.Tensor(array, dtype=dtype, shape=ir.Shape(q.shape), name=weight.name)
    weight.type = ir.TensorType(dtype)


def round_fixed(graph: ir.Graph, before: ir.Node, value: ir.Value, scale: np.ndarray, zero: np.ndarray) -> ir.Value:
    """A value by QuantizeLinear and DequantizeLinear; `scale` float32 and `zero` int8 or uint8 of no axes."""
    inputs = [initializer(graph, f"{value.name}.scale", scale), initializer(graph, f"{value.name}.zero_point", zero)]
    whole = ir.DataType.from_numpy(zero.dtype)
    q = insert(
        before, "QuantizeLinear", [value, *inputs], name=f"{value.name}.quantized", dtype=whole, shape=value.shape
    )
    return insert(
        before, "DequantizeLinear", [q, *inputs], name=f"{value.name}.rounded", dtype=value.dtype, shape=value.shape
    )
