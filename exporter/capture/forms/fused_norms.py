"""Read norms that were fused with what stands before them: SkipLayerNormalization, EmbedLayerNormalization and the RMS norms.

Source: ONNX Runtime's contrib operators. A norm without mean is written out, since ONNX has one from opset 23 on alone.
"""

from collections.abc import Callable

import numpy as np
import onnx_ir as ir

from ...graph.edit import attribute_float, attribute_int, dims, initializer
from .base import Form, Reading, drop, finish, given, integers, number, op, operators

_EPSILON = 1e-12
"""What ONNX Runtime takes where a norm that adds a residual or looks embeddings up says nothing."""


def read(reading: Reading, found: list[ir.Node]) -> None:
    """Rewrite all nodes of this form."""
    for node in found:
        _READERS[node.op_type](reading, node)
        drop(reading, node)


def _layer_norm(node: ir.Node, x: ir.Value, gamma: ir.Value | None, beta: ir.Value | None) -> ir.Value:
    inputs = [v for v in (x, gamma, beta) if v is not None]
    return op(node, "LayerNormalization", inputs, "norm", axis=-1, epsilon=attribute_float(node, "epsilon", _EPSILON))


def _rms_norm(reading: Reading, node: ir.Node, x: ir.Value | None, gamma: ir.Value | None) -> ir.Value:
    """Write `x / √(mean(x²) + ε) γ` over the last axis."""
    square = op(node, "Mul", [x, x], "square")
    if reading.graph.opset_imports.get("", 0) >= 18:
        mean = op(node, "ReduceMean", [square, integers(reading, -1)], "mean", keepdims=1)
    else:
        mean = op(node, "ReduceMean", [square], "mean", axes=[-1], keepdims=1)
    length = op(node, "Add", [mean, number(reading, attribute_float(node, "epsilon", 1e-5))], "variance")
    return op(node, "Mul", [op(node, "Div", [x, op(node, "Sqrt", [length], "length")], "unit"), gamma], "norm")


def _with_skip(node: ir.Node, bias: int) -> ir.Value:
    """Return the sum of the input, the residual and the bias, and give it as the fourth output."""
    total = op(node, "Add", [node.inputs[0], node.inputs[1]], "residual")
    if given(node, bias) is not None:
        total = op(node, "Add", [total, given(node, bias)], "biased")
    if len(node.outputs) > 3:
        finish(node, total, 3)
    return total


def _skip(reading: Reading, node: ir.Node) -> None:
    total = _with_skip(node, 4)
    finish(node, _layer_norm(node, total, given(node, 2), given(node, 3)))


def _skip_simplified(reading: Reading, node: ir.Node) -> None:
    total = _with_skip(node, 3)
    finish(node, _rms_norm(reading, node, total, given(node, 2)))


def _simplified(reading: Reading, node: ir.Node) -> None:
    axis, axes = attribute_int(node, "axis", -1), len(dims(node.inputs[0]) or ())
    if axis not in (-1, axes - 1):
        raise reading.refuse(node, f"a norm from axis {axis} on is not read: those over the last axis are")
    finish(node, _rms_norm(reading, node, node.inputs[0], given(node, 1)))


def _embeddings(reading: Reading, node: ir.Node) -> None:
    """Write ids, positions and segments as lookups and their sum. The number of real tokens is handed on as the mask itself."""
    ids, segments = node.inputs[:2]
    words, places, kinds, gamma, beta, mask, positions = (given(node, i) for i in range(2, 9))
    i64 = ir.DataType.INT64
    if positions is None:
        shape = op(node, "Shape", [ids], "shape", dtype=i64)
        length = op(node, "Gather", [shape, _scalar(reading, 1)], "length", dtype=i64, axis=0)
        positions = op(node, "Range", [_scalar(reading, 0), length, _scalar(reading, 1)], "positions", dtype=i64)
    total = op(node, "Gather", [words, ids], "words", axis=0)
    total = op(node, "Add", [total, op(node, "Gather", [places, positions], "places", axis=0)], "placed")
    if kinds is not None:
        if segments is None:
            raise reading.refuse(node, "it has an embedding of token types and no input of them")
        total = op(node, "Add", [total, op(node, "Gather", [kinds, segments], "kinds", axis=0)], "summed")
    if len(node.outputs) > 2:
        finish(node, total, 2)
    finish(node, _layer_norm(node, total, gamma, beta))
    if len(node.outputs) > 1 and (node.outputs[1].uses() or node.outputs[1].is_graph_output()):
        if mask is None or node.outputs[1].is_graph_output():
            raise reading.refuse(node, "its number of real tokens is read, and it has no mask to count")
        finish(node, mask, 1)


def _scalar(reading: Reading, value: int) -> ir.Value:
    return initializer(reading.graph, f"index.{value}", np.array(value, np.int64))


_READERS: dict[str, Callable[[Reading, ir.Node], None]] = {
    "SkipLayerNormalization": _skip,
    "SkipSimplifiedLayerNormalization": _skip_simplified,
    "SimplifiedLayerNormalization": _simplified,
    "EmbedLayerNormalization": _embeddings,
}

FORM = Form(4, operators(*_READERS) | operators("SimplifiedLayerNormalization", domain=""), read)
