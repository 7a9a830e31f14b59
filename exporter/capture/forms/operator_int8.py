"""Read operators that take and give 8-bit integers with scales as inputs: each becomes its float operator between conversions.

Behind that the graph is one of `QuantizeLinear` and `DequantizeLinear`, which is read as such. Source: ONNX operator specification,
QLinearMatMul; ONNX Runtime's contrib operators QGemm, QLinearAdd, QAttention and their like.
"""

from collections.abc import Callable

import numpy as np
import onnx_ir as ir

from ...graph.edit import attribute_float, attribute_int, constant, dims, insert
from .base import FLOAT, Form, Reading, drop, finish, given, op, operators
from .dynamic_int8 import activation, weight

_ONE_INPUT = {
    "QLinearSigmoid": "Sigmoid",
    "QLinearLeakyRelu": "LeakyRelu",
    "QLinearSoftmax": "Softmax",
    "QLinearReduceMean": "ReduceMean",
}
_TWO_INPUTS = {"QLinearAdd": "Add", "QLinearMul": "Mul"}


def read(reading: Reading, found: list[ir.Node]) -> None:
    """Rewrite all nodes of this form. SourceError for one that is not read."""
    for node in found:
        if node.op_type in _ONE_INPUT:
            _one(reading, node)
        elif node.op_type in _TWO_INPUTS:
            _two(reading, node)
        else:
            _OTHERS[node.op_type](reading, node)
        drop(reading, node)


def _float(reading: Reading, node: ir.Node, index: int, *, axis: int | None = None) -> ir.Value:
    """Return the float value of the three inputs from `index`: integers, scale, zero point; scales of a weight run along `axis`."""
    value = given(node, index)
    if axis is not None and constant(value) is not None and len(dims(value) or ()) == 2:
        return weight(reading, node, (index, index + 1, index + 2), axis=axis)
    return activation(reading, node, value, given(node, index + 1), given(node, index + 2))


def _give(reading: Reading, node: ir.Node, result: ir.Value, index: int) -> None:
    """Put the result in the node's place, quantized by the scale and zero point at `index`; float where there are none."""
    scale, zero = given(node, index), given(node, index + 1)
    if scale is None:
        finish(node, result)
        return
    dtype = zero.dtype if zero is not None else ir.DataType.UINT8
    inputs = [v for v in (result, scale, zero) if v is not None]
    finish(node, insert(node, "QuantizeLinear", inputs, name=f"{node.outputs[0].name}.rounded", dtype=dtype))


def _matmul(reading: Reading, node: ir.Node) -> None:
    a, b = _float(reading, node, 0), _float(reading, node, 3, axis=1)
    _give(reading, node, op(node, "MatMul", [a, b], "float"), 6)


def _gemm(reading: Reading, node: ir.Node) -> None:
    """Read `QGemm`, whose bias is in integers of the product of both scales."""
    turned = bool(attribute_int(node, "transB", 0))
    a, b = _float(reading, node, 0), _float(reading, node, 3, axis=0 if turned else 1)
    if turned:
        b = op(node, "Transpose", [b], "turned", perm=[1, 0])
    if attribute_int(node, "transA", 0):
        a = op(node, "Transpose", [a], "turned_input", perm=[1, 0])
    product, alpha = op(node, "MatMul", [a, b], "float"), attribute_float(node, "alpha", 1.0)
    if alpha != 1.0:
        raise reading.refuse(node, f"a product times {alpha:g} in integers is not read")
    bias = given(node, 6)
    if bias is not None:
        steps = np.asarray(reading.array(node, 1, "scale"), np.float32) * np.asarray(
            reading.array(node, 4, "scale"), np.float32
        )
        levels = reading.array(node, 6, "bias")
        if steps.size not in (1, levels.size) and levels.size != 1:
            raise reading.refuse(node, f"{levels.size} biases and {steps.size} scales: the file is damaged")
        array = (levels.astype(np.float32) * steps.reshape(-1)).astype(np.float32).reshape(-1)
        product = op(node, "Add", [product, reading.floats(f"{bias.name}.float", array)], "biased")
    _give(reading, node, product, 7)


def _one(reading: Reading, node: ir.Node) -> None:
    keep = {"QLinearSoftmax": ("axis",), "QLinearLeakyRelu": ("alpha",), "QLinearReduceMean": ("axes", "keepdims")}
    attributes = {n: a.value for n, a in node.attributes.items() if n in keep.get(node.op_type, ())}
    if node.op_type == "QLinearReduceMean" and "axes" in attributes and (reading.graph.opset_imports.get("", 0) >= 18):
        raise reading.refuse(node, "a mean of integers is not read in this opset")
    if node.op_type == "QLinearSoftmax":
        attributes.setdefault("axis", -1)
    x = _float(reading, node, 0)
    _give(reading, node, op(node, _ONE_INPUT[node.op_type], [x], "float", **attributes), 3)


def _two(reading: Reading, node: ir.Node) -> None:
    a, b = _float(reading, node, 0), _float(reading, node, 3)
    _give(reading, node, op(node, _TWO_INPUTS[node.op_type], [a, b], "float"), 6)


def _where(reading: Reading, node: ir.Node) -> None:
    a, b = _float(reading, node, 1), _float(reading, node, 4)
    _give(reading, node, op(node, "Where", [node.inputs[0], a, b], "float"), 7)


def _concat(reading: Reading, node: ir.Node) -> None:
    parts = [_float(reading, node, i) for i in range(2, len(node.inputs), 3)]
    _give(reading, node, op(node, "Concat", parts, "float", axis=attribute_int(node, "axis")), 0)


def _attention(reading: Reading, node: ir.Node) -> None:
    """Read `QAttention`: input, weight, bias, scale and scale, mask, zero point and zero point, past."""
    x = activation(reading, node, given(node, 0), given(node, 3), given(node, 6))
    w = weight(reading, node, (1, 4, 7))
    inputs = [x, w, given(node, 2), given(node, 5), given(node, 8)]
    finish(node, _contrib(node, "Attention", inputs, 1)[0])


def _embeddings(reading: Reading, node: ir.Node) -> None:
    """Read `QEmbedLayerNormalization`: ids, segments, five quantized tensors, mask, their scales and zero points."""
    tables: list[ir.Value | None] = []
    for i in range(2, 7):
        value = given(node, i)
        if value is None:
            tables.append(None)
        elif len(dims(value) or ()) == 2:
            tables.append(weight(reading, node, (i, i + 6, i + 11)))
        else:
            q, step, zero = (reading.array(node, k, "scale") for k in (i, i + 6, i + 11))
            array = ((q.astype(np.float32) - zero.astype(np.float32)) * step.astype(np.float32)).astype(np.float32)
            tables.append(reading.floats(f"{value.name}.float", array))
    inputs = [*node.inputs[:2], *tables, given(node, 7)]
    normalized, counted = _contrib(node, "EmbedLayerNormalization", inputs, 2)
    finish(node, normalized)
    finish(node, counted, 1)


def _contrib(node: ir.Node, op_type: str, inputs: list[ir.Value | None], outputs: int) -> list[ir.Value]:
    """Insert a fused float operator with the node's attributes, which is read next; return its outputs."""
    attributes = {n: a.value for n, a in node.attributes.items()}
    name = f"{node.outputs[0].name}.float"
    first = insert(node, op_type, inputs, name=name, outputs=outputs, domain=node.domain, dtype=FLOAT, **attributes)
    made = first.producer()
    assert made is not None
    return list(made.outputs)


_OTHERS: dict[str, Callable[[Reading, ir.Node], None]] = {
    "QLinearMatMul": _matmul,
    "QGemm": _gemm,
    "QLinearWhere": _where,
    "QLinearConcat": _concat,
    "QAttention": _attention,
    "QEmbedLayerNormalization": _embeddings,
}

FORM = Form(0, operators("QLinearMatMul", domain="") | operators(*_ONE_INPUT, *_TWO_INPUTS, *_OTHERS), read)
