"""Operators that pick and put by indices: ONNX Runtime's values, and gradients that are finite differences."""

import numpy as np
import pytest

from headway.exporter.graph.torch_indexing import INDEXING

from tests.support.one_node import SQUARE, OneNode, X, check_gradient, check_values, i64, one, with_gradients

ORDER = i64(2, 0, 1, 1)
UPDATES = np.random.default_rng(2).standard_normal((2, 4)).astype(np.float32)
TIES = np.array([[1, 3, 3, 2], [2, 2, 0, 2]], np.float32)
OFF_ON = np.array([-1.0, 2.0], np.float32)
FAR = 2**63 - 1

CASES: list[OneNode] = [
    one("Compress", X, np.array([True, False, True]), axis=1),
    one("Compress", X, np.array([True, False, True]), axis=-2),
    one("Compress", X, np.array([False, True, True])),
    one("Gather", SQUARE, i64(-1, 0)),
    one("Gather", SQUARE, np.array([[1, -4]], np.int32)),
    one("Gather", SQUARE, np.array(-2, np.int64), axis=1),
    one("Gather", i64(5, 6, 7), np.array(-1, np.int64)),
    one("Gather", X, np.array([[0, -1]], np.int64), axis=2),
    one("Gather", X, np.array([0, -1], np.int32), axis=-2),
    one("GatherElements", X, np.array([[[0], [-1], [2]]] * 2, np.int64), axis=2),
    one("GatherElements", X, np.array([[[0, -1], [1, 1], [-2, 0]]] * 2, np.int32), axis=-2),
    one("GatherND", X, np.array([[[1, 0]], [[2, 3]]], np.int64), batch_dims=1),
    one("GatherND", X, np.array([[1, 0], [0, 2]], np.int64)),
    one("GatherND", X, np.array([[-1, -1, -2], [0, 2, 3]], np.int64)),
    one("NonZero", np.array([[1, 0, 2], [0, 0, 3]], np.float32)),
    one("NonZero", np.array([True, False, True])),
    one("OneHot", i64(1, -1, 3, 9), np.array(4, np.int64), OFF_ON),
    one("OneHot", np.array([[1, 2], [0, -4]], np.int64), i64(4), np.array([0, 5], np.int64), axis=1),
    one("OneHot", i64(1, 0), np.array(3, np.int64), OFF_ON, axis=0),
    one("ScatterElements", SQUARE, np.array([[1, -1], [0, 2]], np.int64), UPDATES[:, :2]),
    one("ScatterElements", SQUARE, np.array([[1, -1], [0, 3]], np.int64), UPDATES[:, :2], axis=-1),
    one("ScatterND", SQUARE, np.array([[1], [-1]], np.int64), UPDATES),
    one("ScatterND", SQUARE, np.array([[0, 1], [-1, -2]], np.int64), UPDATES[0, :2]),
    one("ScatterND", X, np.array([[[0, 1]], [[1, 0]]], np.int64), UPDATES[:, None]),
    one("Slice", X, i64(-1), i64(-4), i64(1), i64(-1)),
    one("Slice", X, i64(1, 0), i64(9, 3), i64(2, 1)),
    one("Slice", X, i64(1, 1), i64(2, 3)),
    one("Slice", X, i64(0, FAR), i64(FAR, -FAR), i64(1, 2), i64(2, -2)),
    one("Slice", X, i64(-2), i64(FAR), i64(-1)),
    one("Slice", X, i64(3), i64(1), i64(2)),  # empty
    one("TopK", X, i64(2), outputs=2),
    one("TopK", X, i64(2), axis=1, largest=0, outputs=2),
    one("TopK", TIES, i64(3), outputs=2, constant=(0,)),
    one("TopK", TIES.astype(np.int64), i64(4), largest=0, outputs=2),
    one("Trilu", X),
    one("Trilu", X, np.array(1, np.int64)),
    one("Trilu", X, np.array(-1, np.int64), upper=0),
    one("Trilu", SQUARE > 0, i64(1)),
    one("Trilu", np.ones((3, 3), np.int64), upper=0),
]
REDUCED = ("add", "mul", "max", "min")
CASES += [one("ScatterND", SQUARE, np.array([[1], [1]], np.int64), UPDATES, reduction=r) for r in REDUCED]
CASES += [one("ScatterElements", SQUARE, np.array([[2, 0, 1, 1]] * 2, np.int64), UPDATES, reduction=r) for r in REDUCED]


@pytest.mark.parametrize("case", CASES, ids=str)
def test_values(case: OneNode) -> None:
    check_values(case)


@pytest.mark.parametrize("case", with_gradients(CASES, "NonZero"), ids=str)
def test_gradients(case: OneNode) -> None:
    check_gradient(case)


def test_every_operator_is_checked() -> None:
    assert {case.operator for case in CASES} == set(INDEXING)
