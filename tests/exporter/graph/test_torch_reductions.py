"""Operators that work along axes: ONNX Runtime's values, and gradients that are finite differences."""

import numpy as np
import pytest

from headway.errors import SourceError
from headway.exporter.graph.torch_reductions import REDUCTIONS

from tests.support.one_node import SQUARE, OneNode, X, check_gradient, check_values, i64, in_torch, one, with_gradients

POSITIVE = np.abs(X) + 1
TIES = np.array([[1, 3, 3], [2, 2, 0]], np.float32)
CHANNELS = np.random.default_rng(3).standard_normal((2, 4, 5)).astype(np.float32)
SCALE, SHIFT, VARIANCE = SQUARE[0], SQUARE[1], SQUARE[2] ** 2 + 1
LAST = np.array(1, np.int64)

CASES: list[OneNode] = [
    one("ArgMax", TIES, axis=1, select_last_index=1),
    one("ArgMax", TIES, axis=-1),
    one("ArgMax", X, axis=1, keepdims=0),
    one("ArgMax", X),
    one("ArgMin", TIES, axis=1, select_last_index=1),
    one("ArgMin", -TIES, axis=-1, keepdims=0),
    one("BatchNormalization", CHANNELS, SCALE, SHIFT, SQUARE[3], VARIANCE, epsilon=0.1),
    one("CumSum", X, LAST),
    one("CumSum", X, np.array(-1, np.int64), exclusive=1),
    one("CumSum", X, LAST, reverse=1),
    one("CumSum", X, i64(1), reverse=1, exclusive=1),
    one("CumSum", X.astype(np.int32), LAST),
    one("GroupNormalization", CHANNELS, SCALE, SHIFT, num_groups=2),
    one("GroupNormalization", CHANNELS, SCALE[:2], SHIFT[:2], num_groups=2, opset=18),
    one("InstanceNormalization", CHANNELS, SCALE, SHIFT, epsilon=0.1),
    one("LayerNormalization", X, np.ones(4, np.float32), np.zeros(4, np.float32), epsilon=0.1),
    one("LayerNormalization", X, SCALE),
    one("LayerNormalization", X, SQUARE[:3], SQUARE[1:], axis=1),
    one("LayerNormalization", X, SCALE, SHIFT, axis=-2),
    one("LayerNormalization", X, SCALE, SHIFT, outputs=3),
    one("LogSoftmax", X),
    one("LogSoftmax", X, axis=0),
    one("LpNormalization", X, p=1, axis=1),
    one("LpNormalization", X),
    one("LpNormalization", np.zeros((2, 3), np.float32), constant=(0,)),
    one("RMSNormalization", X, SCALE),
    one("RMSNormalization", X, SQUARE[:3], axis=-2, epsilon=0.1),
    one("Softmax", X),
    one("Softmax", X, axis=1),
    one("Softmax", np.array([[0.0, -np.inf, 1.0]], np.float32), constant=(0,)),
    one("ReduceSum", X.astype(np.int32), i64(1)),
    one("ReduceProd", X.astype(np.int32), i64(1)),
    one("ReduceMax", X.astype(np.int64), i64(-1)),
]
REDUCED = sorted(name for name in REDUCTIONS if name.startswith("Reduce"))
SUMS = ("ReduceSum", "ReduceMean", "ReduceMax", "ReduceMin", "ReduceProd")
for kind in REDUCED:
    CASES += [
        one(kind, POSITIVE),
        one(kind, POSITIVE, keepdims=0),
        one(kind, POSITIVE, i64(-1)),
        one(kind, POSITIVE, i64(0, -2), keepdims=0),
        one(kind, POSITIVE, np.zeros(0, np.int64)),
        one(kind, POSITIVE, np.zeros(0, np.int64), noop_with_empty_axes=1),
        *([] if kind == "ReduceSum" else [one(kind, POSITIVE, axes=[-1, 0], keepdims=0, opset=17)]),
    ]


@pytest.mark.parametrize("case", CASES, ids=str)
def test_values(case: OneNode) -> None:
    check_values(case)


@pytest.mark.parametrize("case", with_gradients(CASES, "ArgMax", "ArgMin"), ids=str)
def test_gradients(case: OneNode) -> None:
    check_gradient(case)


def test_every_operator_is_checked() -> None:
    assert {case.operator for case in CASES} == set(REDUCTIONS)


def test_a_form_without_a_counterpart_is_named() -> None:
    training = one("BatchNormalization", CHANNELS, SCALE, SHIFT, SQUARE[3], VARIANCE, training_mode=1, outputs=3)
    with pytest.raises(SourceError, match=r"'node' \(BatchNormalization, ai.onnx opset 23\): .* training mode"):
        in_torch(training)
