"""Read fused biases, activation functions and matmuls: BiasGelu, FastGelu, QuickGelu, Gelu, BiasAdd, FusedMatMul, FusedGemm and others.

Source: ONNX Runtime's contrib operators. Each becomes the operators of ONNX that compute it, in the form that exporters write.
"""

import math
from collections.abc import Callable

import onnx_ir as ir

from ...graph.edit import attribute_float, attribute_int, attribute_string, optional_float
from .base import CONTRIB, Form, Reading, drop, finish, given, number, op, operators, rank


def read(reading: Reading, found: list[ir.Node]) -> None:
    """Rewrite all nodes of this form."""
    for node in found:
        finish(node, _READERS[node.op_type](reading, node))
        drop(reading, node)


def exact_gelu(reading: Reading, node: ir.Node, x: ir.Value | None) -> ir.Value:
    """Write `x / 2 (1 + erf(x / √2))`."""
    inner = op(node, "Erf", [op(node, "Div", [x, number(reading, math.sqrt(2))], "over_root_2")], "erf")
    factor = op(node, "Add", [inner, number(reading, 1.0)], "one_plus")
    return op(node, "Mul", [op(node, "Mul", [x, factor], "both"), number(reading, 0.5)], "half")


def fast_gelu(reading: Reading, node: ir.Node, x: ir.Value | None) -> ir.Value:
    """Write `x / 2 (1 + tanh(√(2/π) (x + 0.044715 x³)))`."""
    cube = op(node, "Mul", [x, op(node, "Mul", [x, x], "square")], "cube")
    inner = op(node, "Add", [x, op(node, "Mul", [cube, number(reading, 0.044715)], "bent")], "sum")
    tanh = op(node, "Tanh", [op(node, "Mul", [inner, number(reading, math.sqrt(2 / math.pi))], "scaled")], "tanh")
    factor = op(node, "Add", [tanh, number(reading, 1.0)], "one_plus")
    return op(node, "Mul", [op(node, "Mul", [x, factor], "both"), number(reading, 0.5)], "half")


def _biased(node: ir.Node, index: int = 1) -> ir.Value | None:
    bias = given(node, index)
    return node.inputs[0] if bias is None else op(node, "Add", [node.inputs[0], bias], "biased")


def _quick_gelu(reading: Reading, node: ir.Node) -> ir.Value:
    x = node.inputs[0]
    inner = op(node, "Mul", [x, number(reading, attribute_float(node, "alpha", 1.702))], "scaled")
    return op(node, "Mul", [x, op(node, "Sigmoid", [inner], "gate")], "gated")


def _bias_add(reading: Reading, node: ir.Node) -> ir.Value:
    biased = op(node, "Add", [node.inputs[0], node.inputs[1]], "biased")
    return op(node, "Add", [biased, node.inputs[2]], "summed")


def _bias_softmax(reading: Reading, node: ir.Node) -> ir.Value:
    scores = op(node, "Add", [node.inputs[0], node.inputs[1]], "biased")
    axis, axes = attribute_int(node, "axis", 1), rank(node.inputs[0])
    if axis not in (-1, (axes or 0) - 1) or not axes:
        raise reading.refuse(node, "a softmax over several axes is not read")
    return op(node, "Softmax", [scores], "softmax", axis=-1)


def _fused_matmul(reading: Reading, node: ir.Node) -> ir.Value:
    if attribute_int(node, "transBatchA", 0) or attribute_int(node, "transBatchB", 0):
        raise reading.refuse(node, "a matmul that transposes batch axes is not read")
    sides = []
    for value, flag in zip(node.inputs[:2], ("transA", "transB"), strict=True):
        if attribute_int(node, flag, 0):
            axes = rank(value)
            if axes is None or axes < 2:
                raise reading.refuse(node, f"it transposes an input whose number of axes is not known ({flag})")
            value = op(node, "Transpose", [value], flag, perm=[*range(axes - 2), axes - 1, axes - 2])
        sides.append(value)
    product, alpha = op(node, "MatMul", sides, "product"), attribute_float(node, "alpha", 1.0)
    return product if alpha == 1.0 else op(node, "Mul", [product, number(reading, alpha)], "scaled")


def _fused_gemm(reading: Reading, node: ir.Node) -> ir.Value:
    names = {"transA": 0, "transB": 0, "alpha": 1.0, "beta": 1.0}
    settings = {n: node.attributes[n].value for n in names if n in node.attributes}
    function = attribute_string(node, "activation", "")
    if function not in ("Relu", "Tanh", "Sigmoid", "LeakyRelu", "Elu", "Softplus", "Softsign", ""):
        raise reading.refuse(node, f"its activation {function!r} is not read")
    inputs = [v for v in node.inputs[:3] if v is not None]
    product = op(node, "Gemm", inputs, "product", **settings)
    if not function:
        return product
    alpha = optional_float(node, "activation_alpha")
    more = {"alpha": alpha} if alpha is not None and function in ("LeakyRelu", "Elu") else {}
    return op(node, function, [product], "activated", **more)


def _gemm_fast_gelu(reading: Reading, node: ir.Node) -> ir.Value:
    product = op(node, "MatMul", node.inputs[:2], "product")
    bias = given(node, 2)
    return fast_gelu(reading, node, op(node, "Add", [product, bias], "biased") if bias is not None else product)


_READERS: dict[str, Callable[[Reading, ir.Node], ir.Value]] = {
    "Gelu": lambda reading, node: exact_gelu(reading, node, node.inputs[0]),
    "BiasGelu": lambda reading, node: exact_gelu(reading, node, _biased(node)),
    "FastGelu": lambda reading, node: fast_gelu(reading, node, _biased(node)),
    "QuickGelu": _quick_gelu,
    "BiasAdd": _bias_add,
    "BiasSoftmax": _bias_softmax,
    "FusedMatMul": _fused_matmul,
    "TransposeMatMul": _fused_matmul,
    "FusedGemm": _fused_gemm,
    "GemmFastGelu": _gemm_fast_gelu,
}

FORM = Form(5, operators(*_READERS, domain=CONTRIB), read)
