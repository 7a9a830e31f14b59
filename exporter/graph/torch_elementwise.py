"""Operators that work element by element: arithmetic, comparisons, activations, bits, casts. Imports torch."""

from collections.abc import Callable
from typing import Any

import onnx_ir as ir
import torch
import torch.nn.functional as F

from .edit import attribute_float, attribute_int, attribute_string
from .torch_node import Operator, Tensor, dtype_of, given, no_counterpart

_SELU_ALPHA, _SELU_GAMMA = 1.67326319217681884765625, 1.05070102214813232421875
"""The standard's defaults, as it writes them."""


def _cast(node: ir.Node, x: list[Any]) -> Tensor:
    return x[0].to(dtype_of(node, attribute_int(node, "to")))


def _clip(_: ir.Node, x: list[Any]) -> Tensor:
    low, high = given(x, 1), given(x, 2)
    return x[0] if low is None and high is None else torch.clamp(x[0], low, high)


def _div(_: ir.Node, x: list[Any]) -> Tensor:
    return x[0] / x[1] if x[0].is_floating_point() else torch.div(x[0], x[1], rounding_mode="trunc")


def _mod(node: ir.Node, x: list[Any]) -> Tensor:
    """Give the remainder the sign of the divisor, or with `fmod` that of the dividend, as C does."""
    return torch.fmod(x[0], x[1]) if attribute_int(node, "fmod", 0) else torch.remainder(x[0], x[1])


def _pow(_: ir.Node, x: list[Any]) -> Tensor:
    return (x[0] ** x[1]).to(x[0].dtype)


def _shift(node: ir.Node, x: list[Any]) -> Tensor:
    left = attribute_string(node, "direction") == "LEFT"
    return torch.bitwise_left_shift(x[0], x[1]) if left else torch.bitwise_right_shift(x[0], x[1])


def _is_infinite(node: ir.Node, x: list[Any]) -> Tensor:
    result = torch.zeros_like(x[0], dtype=torch.bool)
    if attribute_int(node, "detect_positive", 1):
        result = result | torch.isposinf(x[0])
    if attribute_int(node, "detect_negative", 1):
        result = result | torch.isneginf(x[0])
    return result


def _dropout(node: ir.Node, x: list[Any]) -> tuple[Tensor, Tensor]:
    training = given(x, 2)
    if training is not None and bool(training):
        raise no_counterpart(node, "a Dropout in training mode")
    return x[0], torch.ones_like(x[0], dtype=torch.bool)


def _hard_sigmoid(node: ir.Node, x: list[Any]) -> Tensor:
    alpha, beta = attribute_float(node, "alpha", 0.2), attribute_float(node, "beta", 0.5)
    return (x[0] * alpha + beta).clamp(0, 1)


def _elu(node: ir.Node, x: list[Any]) -> Tensor:
    return F.elu(x[0], attribute_float(node, "alpha", 1.0))


def _celu(node: ir.Node, x: list[Any]) -> Tensor:
    return F.celu(x[0], attribute_float(node, "alpha", 1.0))


def _selu(node: ir.Node, x: list[Any]) -> Tensor:
    alpha, gamma = attribute_float(node, "alpha", _SELU_ALPHA), attribute_float(node, "gamma", _SELU_GAMMA)
    return gamma * F.elu(x[0], alpha)


def _shrink(node: ir.Node, x: list[Any]) -> Tensor:
    limit, bias = attribute_float(node, "lambd", 0.5), attribute_float(node, "bias", 0.0)
    return torch.where(x[0] < -limit, x[0] + bias, torch.where(x[0] > limit, x[0] - bias, 0))


def _thresholded(node: ir.Node, x: list[Any]) -> Tensor:
    return torch.where(x[0] > attribute_float(node, "alpha", 1.0), x[0], 0)


def _of_one(function: Callable[[Tensor], Tensor]) -> Operator:
    return lambda _, x: function(x[0])


def _of_two(function: Callable[[Tensor, Tensor], Tensor]) -> Operator:
    return lambda _, x: function(x[0], x[1])


def _of_many(function: Callable[[Tensor], Tensor]) -> Operator:
    """Return an operator on any number of inputs, which broadcast; `function` reduces axis 0 of them all."""
    return lambda _, x: x[0] if len(x) == 1 else function(torch.stack(torch.broadcast_tensors(*x)))


ELEMENTWISE: dict[str, Operator] = {
    "Abs": _of_one(torch.abs),
    "Acos": _of_one(torch.acos),
    "Acosh": _of_one(torch.acosh),
    "Add": _of_two(lambda a, b: a + b),
    "And": _of_two(lambda a, b: a & b),
    "Asin": _of_one(torch.asin),
    "Asinh": _of_one(torch.asinh),
    "Atan": _of_one(torch.atan),
    "Atanh": _of_one(torch.atanh),
    "BitShift": _shift,
    "BitwiseAnd": _of_two(lambda a, b: a & b),
    "BitwiseNot": _of_one(lambda a: ~a),
    "BitwiseOr": _of_two(lambda a, b: a | b),
    "BitwiseXor": _of_two(lambda a, b: a ^ b),
    "Cast": _cast,
    "CastLike": _of_two(lambda a, b: a.to(b.dtype)),
    "Ceil": _of_one(torch.ceil),
    "Celu": _celu,
    "Clip": _clip,
    "Cos": _of_one(torch.cos),
    "Cosh": _of_one(torch.cosh),
    "Div": _div,
    "Dropout": _dropout,
    "Elu": _elu,
    "Equal": _of_two(lambda a, b: a == b),
    "Erf": _of_one(torch.erf),
    "Exp": _of_one(torch.exp),
    "Floor": _of_one(torch.floor),
    "Gelu": lambda node, x: F.gelu(x[0], approximate=attribute_string(node, "approximate", "none")),
    "Greater": _of_two(lambda a, b: a > b),
    "GreaterOrEqual": _of_two(lambda a, b: a >= b),
    "HardSigmoid": _hard_sigmoid,
    "HardSwish": _of_one(lambda a: a * (a / 6 + 0.5).clamp(0, 1)),
    "Identity": _of_one(lambda a: a),
    "IsInf": _is_infinite,
    "IsNaN": _of_one(torch.isnan),
    "LeakyRelu": lambda node, x: F.leaky_relu(x[0], attribute_float(node, "alpha", 0.01)),
    "Less": _of_two(lambda a, b: a < b),
    "LessOrEqual": _of_two(lambda a, b: a <= b),
    "Log": _of_one(torch.log),
    "Max": _of_many(lambda stacked: stacked.amax(0)),
    "Mean": _of_many(lambda stacked: stacked.mean(0)),
    "Min": _of_many(lambda stacked: stacked.amin(0)),
    "Mish": _of_one(F.mish),
    "Mod": _mod,
    "Mul": _of_two(lambda a, b: a * b),
    "Neg": _of_one(torch.neg),
    "Not": _of_one(lambda a: ~a),
    "Or": _of_two(lambda a, b: a | b),
    "PRelu": _of_two(lambda a, slope: torch.where(a < 0, slope * a, a)),
    "Pow": _pow,
    "Reciprocal": _of_one(torch.reciprocal),
    "Relu": _of_one(torch.relu),
    "Round": _of_one(torch.round),
    "Selu": _selu,
    "Shrink": _shrink,
    "Sigmoid": _of_one(torch.sigmoid),
    "Sign": _of_one(torch.sign),
    "Sin": _of_one(torch.sin),
    "Sinh": _of_one(torch.sinh),
    "Softplus": _of_one(F.softplus),
    "Softsign": _of_one(F.softsign),
    "Sqrt": _of_one(torch.sqrt),
    "Sub": _of_two(lambda a, b: a - b),
    "Sum": _of_many(lambda stacked: stacked.sum(0)),
    "Tan": _of_one(torch.tan),
    "Tanh": _of_one(torch.tanh),
    "ThresholdedRelu": _thresholded,
    "Where": lambda _, x: torch.where(x[0], x[1], x[2]),
    "Xor": _of_two(lambda a, b: a ^ b),
}
