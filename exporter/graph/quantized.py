"""Hold integers in the canonical graph: in plain ONNX that every target can read, and one function written in plain ONNX.

A quantized weight is `MatMul(x, DequantizeLinear(W int8 [in, out], scale))`; a quantized embedding is a lookup of int8 rows
and of their scales. A quantized weight of LSTMs is `DequantizeLinear(W int8 [directions, gates, in], scale)` with a scale for each row,
by blocks that are rows. An activation with a fixed range passes through `QuantizeLinear` and `DequantizeLinear`. An activation
whose range is computed at run time passes through the function `headway.QuantizeTokens`: each token has its own range, so a
text's result depends neither on the other texts of its batch nor on padding.

A weight that came quantized may have zero points, the third input of its DequantizeLinear. What is quantized here has none.
"""

from typing import Any

import numpy as np
import onnx_ir as ir

from ...calibration.rounding import QuantizedMatrix
from .edit import attribute_int, consumers, dims, first_of, initializer, insert, producer

DOMAIN = "headway"
TOKENS = "QuantizeTokens"
_OPSET = 23
_STEPS = 255.0


def tokens_function() -> ir.Function:
    """Return the function `y = QuantizeTokens(x)`: each row of float32 `[…, features]` rounded to 256 levels over its range.

    The range always includes 0. `scale = (high - low) / 255`, `zero = round(-low / scale)`, `q = clip(round(x / scale) + zero, 0,
    255)`, `y = (q - zero) scale`: the arithmetic of `DynamicQuantizeLinear`, ONNX operator specification, row by row.
    """
    x = ir.Value(name="x", type=ir.TensorType(ir.DataType.FLOAT))

    def constant(name: str, array: float | list[int], dtype: ir.DataType) -> ir.Node:
        node = ir.node("Constant", [], attributes={"value": ir.tensor(array, dtype=dtype)}, name=name)
        node.outputs[0].name = name
        return node

    body: list[ir.Node] = []

    def op(op_type: str, *inputs: ir.Value, name: str, **attributes: int) -> ir.Value:
        node = ir.node(op_type, list(inputs), attributes=attributes, name=name)
        node.outputs[0].name = name
        body.append(node)
        return node.outputs[0]

    def number(name: str, value: float) -> ir.Value:
        body.append(constant(name, value, ir.DataType.FLOAT))
        return body[-1].outputs[0]

    body.append(constant("last", [-1], ir.DataType.INT64))
    last = body[-1].outputs[0]
    none, one, steps = number("none", 0.0), number("one", 1.0), number("steps", _STEPS)
    low = op("Min", op("ReduceMin", x, last, name="least", keepdims=1), none, name="low")
    high = op("Max", op("ReduceMax", x, last, name="largest", keepdims=1), none, name="high")
    given = op("Div", op("Sub", high, low, name="span"), steps, name="given")
    scale = op("Where", op("Equal", given, none, name="flat"), one, given, name="scale")
    zero = op("Round", op("Neg", op("Div", low, scale, name="lowest"), name="shift"), name="zero")
    q = op("Add", op("Round", op("Div", x, scale, name="levels"), name="whole"), zero, name="shifted")
    q = op("Min", op("Max", q, none, name="floored"), steps, name="q")
    y = op("Mul", op("Sub", q, zero, name="centred"), scale, name="y")
    graph = ir.Graph([x], [y], nodes=body, opset_imports={"": _OPSET}, name=TOKENS)
    return ir.Function(DOMAIN, TOKENS, graph=graph, attributes=[])


def quantized_weight_of(node: ir.Node) -> tuple[ir.Value, ir.Value] | None:
    """Return `q, scale` of a MatMul by a quantized weight without zero points; None for another node."""
    found = shifted_weight_of(node)
    return found[:2] if found is not None and found[2] is None else None


def shifted_weight_of(node: ir.Node) -> tuple[ir.Value, ir.Value, ir.Value | None] | None:
    """Return `q, scale, zero` of a MatMul by a quantized weight, `zero` None where it has none; None for another node."""
    dequantize = producer(node.inputs[1], "DequantizeLinear") if node.op_type == "MatMul" else None
    if dequantize is None or dequantize.inputs[0] is None or dequantize.inputs[1] is None:
        return None
    q, scale, zero = (*dequantize.inputs, None)[:3]
    assert q is not None and scale is not None
    return (q, scale, zero) if q.is_initializer() and scale.is_initializer() and len(dims(q) or ()) == 2 else None


def rounded_from(value: ir.Value | None) -> ir.Value | None:
    """Return an activation before it was rounded, by a fixed range or per token; None where it was not."""
    tokens = producer(value, TOKENS)
    if tokens is not None:
        return tokens.inputs[0]
    back = producer(value, "DequantizeLinear")
    there = producer(back.inputs[0], "QuantizeLinear") if back is not None else None
    return there.inputs[0] if there is not None else None


def unrounded(value: ir.Value | None) -> ir.Value | None:
    """Return an activation before it was rounded; the value itself where it was not."""
    before = rounded_from(value)
    return value if before is None else before


def readers_through(value: ir.Value) -> list[ir.Node]:
    """Return the nodes that read a value, or its rounded form."""
    readers: list[ir.Node] = []
    for node in consumers(value):
        if node.op_type in (TOKENS, "QuantizeLinear", "DequantizeLinear"):
            readers += readers_through(node.outputs[0])
        else:
            readers.append(node)
    return readers


def is_quantized(model: ir.Model) -> bool:
    """Return True where any weight or embedding of the model is held in integers."""
    return any(v.dtype in (ir.DataType.INT8, ir.DataType.INT4) for v in model.graph.initializers.values())


def rounds_activations(model: ir.Model) -> bool:
    """Return True where an activation is rounded to integers, by a fixed range or per token."""
    return any(n.op_type in (TOKENS, "QuantizeLinear") for n in model.graph)


def fixed_scale(low: float, high: float, *, signed: bool) -> tuple[np.ndarray, np.ndarray]:
    """Return scale (float32) and zero point (int8 0, or uint8) of a range, widened to include 0; a range of only 0 has scale 1."""
    low, high = min(low, 0.0), max(high, 0.0)
    scale = np.float32(max(-low, high) / 127 if signed else (high - low) / 255)
    if scale < np.finfo(np.float32).tiny:
        scale, low = np.float32(1.0), 0.0
    if signed:
        return np.array(scale), np.array(0, np.int8)
    return np.array(scale), np.array(np.clip(np.rint(-low / scale), 0, 255), np.uint8)


def quantize_weight(graph: ir.Graph, weight: ir.Value, matrix: QuantizedMatrix) -> None:
    """Quantize a float initializer that matmuls alone read: integers with their scales, and a DequantizeLinear."""
    readers = consumers(weight)
    inputs = [weight, initializer(graph, f"{weight.name}_scale", matrix.scale)]
    shape = list(weight.shape) if weight.shape is not None else None
    set_integers(weight, matrix.q, matrix.bits)
    if matrix.zero is not None:
        inputs.append(initializer(graph, f"{weight.name}_zero_point", matrix.zero))
        set_integers(inputs[-1], matrix.zero, matrix.bits)
    layout: dict[str, Any] = {"axis": 1} if matrix.block is None else {"axis": 0, "block_size": matrix.block}
    back = insert(
        first_of(graph, readers),
        "DequantizeLinear",
        inputs,
        name=f"{weight.name}.dequantized",
        dtype=ir.DataType.FLOAT,
        shape=shape,
        **layout,
    )
    for reader in readers:
        reader.replace_input_with(1, back)


def set_integers(weight: ir.Value, q: np.ndarray, bits: int) -> None:
    """Replace an initializer's content by integers, an int8 array: stored as int8, or as int4 where `bits` is at most 4."""
    dtype = ir.DataType.INT8 if bits > 4 else ir.DataType.INT4
    array = q if bits > 4 else q.astype(dtype.numpy())
    weight.const_value = ir.Tensor(array, dtype=dtype, shape=ir.Shape(q.shape), name=weight.name)
    weight.type = ir.TensorType(dtype)


def is_lookup(node: ir.Node, embedding: ir.Value) -> bool:
    """Return True for a node that looks up rows of an embedding."""
    return node.op_type == "Gather" and node.inputs[0] is embedding and attribute_int(node, "axis", 0) == 0


def round_fixed(graph: ir.Graph, before: ir.Node, value: ir.Value, scale: np.ndarray, zero: np.ndarray) -> ir.Value:
    """Insert QuantizeLinear and DequantizeLinear behind a value; `scale` is a float32 and `zero` an int8 or uint8 scalar."""
    inputs = [initializer(graph, f"{value.name}.scale", scale), initializer(graph, f"{value.name}.zero_point", zero)]
    integer = ir.DataType.from_numpy(zero.dtype)
    q = insert(
        before, "QuantizeLinear", [value, *inputs], name=f"{value.name}.quantized", dtype=integer, shape=value.shape
    )
    return insert(
        before, "DequantizeLinear", [q, *inputs], name=f"{value.name}.rounded", dtype=value.dtype, shape=value.shape
    )


def quantize_embedding(graph: ir.Graph, embedding: ir.Value, q: np.ndarray, scale: np.ndarray, offset: int = 0) -> None:
    """Quantize a float initializer that lookups alone read: rows `q`, int8 `[rows, width]`, stand for `(q + offset) scale`.

    `scale` is float32 `[rows, 1]`.
    """
    scales = initializer(graph, f"{embedding.name}_scale", scale)
    lookups = consumers(embedding)
    set_integers(embedding, q, 8)
    for node in lookups:
        _look_up(node, scales, offset)


def quantize_recurrent(graph: ir.Graph, weight: ir.Value, q: np.ndarray, scale: np.ndarray) -> None:
    """Quantize a float initializer that recurrent layers alone read: `q`, int8 `[directions, gates, in]`, stands for `q scale`.

    `scale` is float32 `[directions, gates, 1]`.
    """
    readers = consumers(weight)
    shape = list(q.shape)
    set_integers(weight, q, 8)
    back = insert(
        first_of(graph, readers),
        "DequantizeLinear",
        [weight, initializer(graph, f"{weight.name}_scale", scale)],
        name=f"{weight.name}.dequantized",
        dtype=ir.DataType.FLOAT,
        shape=shape,
        axis=2,
        block_size=shape[2],
    )
    for reader in readers:
        for slot, read in enumerate(reader.inputs):
            if read is weight:
                reader.replace_input_with(slot, back)


def is_recurrent(node: ir.Node, weight: ir.Value) -> bool:
    """Return True for an LSTM that reads a weight as its weights of inputs or of states."""
    return node.op_type == "LSTM" and all(i in (1, 2) for i, read in enumerate(node.inputs) if read is weight)


def _look_up(node: ir.Node, scales: ir.Value, offset: int) -> None:
    """Make a lookup one of int8 rows, and look up the scales of the same rows."""
    graph, result = node.graph, node.outputs[0]
    assert isinstance(graph, ir.Graph)
    after = first_of(graph, consumers(result))
    shape = list(result.shape) if result.shape is not None else None
    name, dtype = str(result.name), ir.DataType.FLOAT
    factor = insert(
        after,
        "Gather",
        [scales, node.inputs[1]],
        name=f"{name}.scale",
        dtype=dtype,
        shape=[*shape[:-1], 1] if shape else None,
    )
    integers = insert(after, "Cast", [result], name=f"{name}.cast", dtype=dtype, shape=shape, to=int(dtype))
    cast = producer(integers)
    if offset:
        least = initializer(graph, f"row_offset_{offset}", np.array(offset, np.float32))
        integers = insert(after, "Add", [integers, least], name=f"{name}.levels", dtype=dtype, shape=shape)
    rows = insert(after, "Mul", [integers, factor], name=f"{name}.float", dtype=dtype, shape=shape)
    for reader in consumers(result):
        if reader is not cast:
            for i, read in enumerate(reader.inputs):
                if read is result:
                    reader.replace_input_with(i, rows)
    result.type = ir.TensorType(ir.DataType.INT8)
