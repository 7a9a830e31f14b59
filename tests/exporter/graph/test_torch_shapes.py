"""Operators that make and reshape tensors: ONNX Runtime's values, and gradients that are finite differences."""

import numpy as np
import onnx_ir as ir
import pytest

from headway.errors import SourceError
from headway.exporter.graph.torch_shapes import SHAPES

from tests.support.one_node import SQUARE, OneNode, X, check_gradient, check_values, i64, in_torch, one, with_gradients

MODES = ("edge", "reflect", "wrap")
FIVE, EMPTY = np.arange(5, dtype=np.float32), np.zeros((0, 3), np.float32)

CASES: list[OneNode] = [
    one("Concat", X, X, axis=-1),
    one("Concat", X, X[:1], axis=0),
    one("ConstantOfShape", i64(2, 3)),
    one("ConstantOfShape", i64(2, 3), value=ir.tensor(np.array([7], np.int64))),
    one("ConstantOfShape", i64(4), value=ir.tensor(np.array([True]))),
    one("ConstantOfShape", np.zeros(0, np.int64), value=ir.tensor(np.array([0.5], np.float32))),
    one("Expand", X[:, :1], i64(1, 5, 4)),
    one("Expand", X[:, :1], i64(5, 1)),  # both sides give way
    one("Expand", X[0, 0], i64(3, 2, 1)),
    one("EyeLike", SQUARE[:3]),
    one("EyeLike", SQUARE[:3], k=1, dtype=int(ir.DataType.INT64)),
    one("EyeLike", SQUARE, k=-2),
    one("Flatten", X),
    one("Flatten", X, axis=0),
    one("Flatten", X, axis=-1),
    one("Flatten", X, axis=3),
    one("Pad", X, i64(0, 1, 0, 0, 0, 2), np.float32(3), constant=(2,)),
    one("Pad", X, i64(1, 0), np.float32(3), i64(-1), constant=(2,)),
    one("Pad", X, i64(0, 1, 0, 0, 0, 2)),
    one("Pad", X, i64(0, -1, 0, 0, 0, -2)),
    one("Pad", i64(1, 2, 3), i64(1, 1), np.array(9, np.int64)),
    one("Range", np.array(2, np.int64), np.array(9, np.int64), np.array(3, np.int64)),
    one("Range", np.array(9, np.int64), np.array(2, np.int64), np.array(-2, np.int64)),
    one("Range", np.float32(0), np.float32(1), np.float32(0.3), constant=(0, 1, 2)),
    one("Reshape", X, i64(0, -1)),
    one("Reshape", X, i64(-1, 2)),
    one("Reshape", X, i64(4, 0, 2)),
    one("Reshape", EMPTY, i64(3, 0), allowzero=1),
    one("Shape", X, start=1, end=-1),
    one("Shape", X, start=-2),
    one("Shape", X),
    one("Size", X),
    one("Split", X, i64(1, 3), axis=2, outputs=2),
    one("Split", X, axis=2, num_outputs=2, outputs=2),
    one("Split", np.concatenate([X, X]), num_outputs=2, outputs=2),
    one("Split", FIVE, num_outputs=3, outputs=3),  # the last is smaller
    one("Split", X, axis=-1, outputs=2, opset=17),
    one("Squeeze", X[:1], i64(0)),
    one("Squeeze", X[:, :1], i64(-2)),
    one("Squeeze", X[:1, :1]),
    one("Tile", X, i64(1, 2, 1)),
    one("Transpose", X),
    one("Transpose", X, perm=[0, 2, 1]),
    one("Unsqueeze", X, i64(-1, 0)),
    one("Unsqueeze", X, np.array(1, np.int64)),
]
CASES += [one("Pad", X, i64(0, 1, 2, 0, 2, 3), mode=mode) for mode in MODES]
CASES += [one("Pad", FIVE, i64(7, 6), mode=mode) for mode in ("edge", "wrap")]


@pytest.mark.parametrize("case", CASES, ids=str)
def test_values(case: OneNode) -> None:
    check_values(case)


FLAT = ("ConstantOfShape", "EyeLike", "Range", "Shape", "Size")


@pytest.mark.parametrize("case", [c for c in with_gradients(CASES, *FLAT) if c.x.size], ids=str)
def test_gradients(case: OneNode) -> None:
    check_gradient(case)


def test_every_operator_is_checked() -> None:
    assert {case.operator for case in CASES} == set(SHAPES)


def test_a_form_without_a_counterpart_is_named() -> None:
    with pytest.raises(SourceError, match=r"node 'node' \(Pad, ai.onnx opset 23\): the mode 'odd' has no counterpart"):
        in_torch(one("Pad", X, i64(0, 1, 0, 0, 0, 2), mode="odd"))
    with pytest.raises(
        SourceError, match=r"node 'node' \(Reshape, ai.onnx opset 23\): torch.*does not compute it as it stands"
    ):
        in_torch(one("Reshape", X, i64(5, 5)))
