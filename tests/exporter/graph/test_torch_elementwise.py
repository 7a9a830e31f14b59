"""Operators that work element by element: ONNX Runtime's values, and gradients that are finite differences."""

import numpy as np
import onnx_ir as ir
import pytest

from headway.errors import SourceError
from headway.exporter.graph.torch_elementwise import ELEMENTWISE

from tests.support.one_node import SQUARE, OneNode, X, check_gradient, check_values, i64, in_torch, one, with_gradients

UNIT = np.tanh(X)
POSITIVE = np.abs(X) + 1
TRUTH, OTHER = X > 0, SQUARE[0] > 0
SPECIAL = np.array([0.0, np.nan, np.inf, -np.inf, 1.5], np.float32)
BITS, MASKS = np.array([1, 6, 200, 255], np.uint8), np.array([3, 3, 15, 1], np.uint8)
SIGNED, DIVISORS = i64(-7, 7, -8, 9), i64(2, -2, 3, 4)

CASES: list[OneNode] = [
    one("Cast", X * 3, to=int(ir.DataType.INT64)),
    one("Cast", X * 3, to=int(ir.DataType.INT32)),
    one("Cast", np.array([0.0, -0.5, 2.0], np.float32), to=int(ir.DataType.BOOL)),
    one("Cast", TRUTH, to=int(ir.DataType.FLOAT)),
    one("CastLike", SIGNED, np.float32(0), constant=(1,)),
    one("Clip", X, np.float32(-0.5), np.float32(0.5)),
    one("Clip", X, None, np.float32(0.1)),
    one("Clip", X, np.float32(-0.5)),
    one("Clip", X),
    one("Clip", X, np.float32(0.5), np.float32(-0.5)),  # the upper bound wins
    one("Clip", SIGNED, np.array(-7, np.int64), np.array(8, np.int64)),
    one("Div", i64(-7, 7), i64(2, 2)),
    one("Div", X, SQUARE[0]),
    one("Dropout", X),
    one("Dropout", X, outputs=2),
    one("Elu", X),
    one("Elu", X, alpha=0.5),
    one("Celu", X, alpha=2.0),
    one("Celu", X),
    one("Gelu", X, approximate="tanh"),
    one("Gelu", X),
    one("HardSigmoid", 3 * X),
    one("HardSigmoid", 3 * X, alpha=0.3, beta=0.4),
    one("HardSwish", 3 * X),
    one("IsInf", SPECIAL),
    one("IsInf", SPECIAL, detect_negative=0),
    one("IsInf", SPECIAL, detect_positive=0),
    one("IsNaN", SPECIAL),
    one("LeakyRelu", X),
    one("LeakyRelu", X, alpha=0.3),
    one("Max", X, np.float32(0)),
    one("Max", X, np.float32(0), X[:1] + 1),
    one("Max", X),
    one("Max", SIGNED, DIVISORS),
    one("Mean", X, SQUARE[0], X[:1]),
    one("Min", X, np.float32(0)),
    one("Min", X, np.float32(0), X[:1] - 1),
    one("Mish", X),
    one("Mod", SIGNED, DIVISORS),
    one("Mod", SIGNED, DIVISORS, fmod=1),
    one("Mod", 5 * X, np.float32(1.5), fmod=1, constant=(1,)),
    one("PRelu", X, SQUARE[0]),
    one("Pow", POSITIVE, SQUARE[0]),
    one("Pow", X, np.float32(2), constant=(1,)),
    one("Pow", SIGNED, np.float32(2), constant=(1,)),
    one("Pow", X, np.array(3, np.int64)),
    one("Round", np.array([0.5, 1.5, -0.5, -2.5, 0.3], np.float32), constant=(0,)),
    one("Selu", X),
    one("Selu", X, alpha=0.5, gamma=2.0),
    one("Shrink", X),
    one("Shrink", X, lambd=0.2, bias=0.1),
    one("Softplus", 10 * X),
    one("Sum", X, SQUARE[0], X[:1]),
    one("ThresholdedRelu", X),
    one("ThresholdedRelu", X, alpha=0.2),
    one("Where", TRUTH, X, SQUARE[0]),
    one("Where", OTHER, np.array(1, np.int64), SIGNED),
    one("BitShift", BITS, MASKS % 4, direction="LEFT"),
    one("BitShift", BITS, MASKS % 4, direction="RIGHT"),
    one("BitwiseNot", BITS),
    one("Not", TRUTH),
]
CASES += [one(kind, X) for kind in ("Abs", "Atan", "Asinh", "Ceil", "Cos", "Cosh", "Erf", "Exp", "Floor", "Identity")]
CASES += [
    one(kind, X) for kind in ("Neg", "Reciprocal", "Relu", "Sigmoid", "Sign", "Sin", "Sinh", "Softsign", "Tan", "Tanh")
]
CASES += [one(kind, UNIT) for kind in ("Acos", "Asin", "Atanh")]
CASES += [one(kind, POSITIVE) for kind in ("Acosh", "Log", "Sqrt")]
CASES += [one(kind, X, SQUARE[0]) for kind in ("Add", "Mul", "Sub")]
CASES += [one(kind, SIGNED, DIVISORS) for kind in ("Add", "Mul", "Sub")]
CASES += [one(kind, TRUTH, OTHER) for kind in ("And", "Or", "Xor", "Equal")]
CASES += [one(kind, BITS, MASKS) for kind in ("BitwiseAnd", "BitwiseOr", "BitwiseXor")]
COMPARED = ("Equal", "Greater", "GreaterOrEqual", "Less", "LessOrEqual")
CASES += [one(kind, X, np.where(X > 0, X, np.float32(0.2))) for kind in COMPARED]


@pytest.mark.parametrize("case", CASES, ids=str)
def test_values(case: OneNode) -> None:
    check_values(case)


@pytest.mark.parametrize("case", with_gradients(CASES, *COMPARED, "Cast", "IsInf", "IsNaN"), ids=str)
def test_gradients(case: OneNode) -> None:
    check_gradient(case)


def test_every_operator_is_checked() -> None:
    assert {case.operator for case in CASES} == set(ELEMENTWISE)


def test_a_form_without_a_counterpart_is_named() -> None:
    strings = one("Cast", X, to=int(ir.DataType.STRING))
    with pytest.raises(
        SourceError,
        match=r"node 'node' \(Cast, ai.onnx opset 23\): the type string has no counterpart .*headway export",
    ):
        in_torch(strings)
    training = one("Dropout", X, np.float32(0.5), np.array(True))
    with pytest.raises(SourceError, match="a Dropout in training mode has no counterpart"):
        in_torch(training)
