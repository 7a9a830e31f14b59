"""Reshapes that fold batch and sequence are taken away; the numbers stay."""

import numpy as np
import onnx_ir as ir
import pytest
from onnx import helper

from headway.exporter.graph.canonical import _name_inputs
from headway.exporter.graph.flattened_rows import unflatten_rows

from tests.support.hand_made import load, run

FEEDS = {"input_ids": np.arange(10).reshape(2, 5), "attention_mask": np.ones((2, 5), np.int64)}


def folded(kind: str) -> ir.Model:
    """Return a feed-forward with a residual on `[batch * sequence, 4]`, with an operator of some kind in it."""
    n, rng = helper.make_node, np.random.default_rng(0)
    sizes = {"table": (50, 4), "w": (4, 6), "b": (6,), "v": (6, 4), "scale": (4,), "shift": (4,)}
    weights: dict[str, np.ndarray] = {k: rng.normal(size=s).astype(np.float32) for k, s in sizes.items()}
    if kind == "transposed":
        weights["w"] = np.ascontiguousarray(weights["w"].T)
    weights |= {"rows": np.array([-1, 4]), "last": np.array([4])}
    operators = [
        n("Gather", ["table", "input_ids"], ["x"]),
        n("Shape", ["input_ids"], ["size"]),
        n("Concat", ["size", "last"], ["apart"], axis=0),
        n("Reshape", ["x", "rows"], ["flat"]),
        n("LayerNormalization", ["flat", "scale", "shift"], ["normed"], axis=1 if kind == "positive axis" else -1),
        n(
            "Gemm",
            ["normed", "w", "b"],
            ["up"],
            alpha=2.0 if kind == "alpha" else 1.0,
            transB=int(kind == "transposed"),
        ),
        n("Relu", ["up"], ["active"]),
        n("ReduceMax", ["active"], ["mixed"], axes=[0], keepdims=1)
        if kind == "mixed"
        else n("Relu", ["active"], ["mixed"]),
        n("MatMul", ["mixed", "v"], ["down"]),
        n("Add", ["flat", "down"], ["sum"]),
        n("Reshape", ["sum", "apart"], ["y"]),
    ]
    if kind == "mixed":
        weights["axes"] = np.array([0])
        operators[7] = n("ReduceMax", ["active", "axes"], ["mixed"], keepdims=1)
    model = load(operators, weights, ["y"])
    _name_inputs(model.graph)
    for value in (v for node in model.graph for v in node.outputs):
        if value.name in ("x", "y"):
            value.shape = ir.Shape(["batch", "sequence", 4])
        elif value.shape is not None and len(value.shape) == 2 and value.name != "size":
            value.shape = ir.Shape(["rows", value.shape[-1]])
    return model


@pytest.mark.parametrize("kind", ["plain", "positive axis", "transposed"])
def test_rows_are_unfolded(kind: str) -> None:
    model = folded(kind)
    wanted = run(model, FEEDS)[0]
    assert unflatten_rows(model.graph) == 2
    assert not [n for n in model.graph if n.op_type in ("Reshape", "Gemm")]
    assert {len(n.outputs[0].shape or ()) for n in model.graph if n.op_type in ("MatMul", "Relu", "Add")} == {3}
    np.testing.assert_allclose(run(model, FEEDS)[0], wanted, atol=1e-5)


@pytest.mark.parametrize("kind", ["alpha", "mixed"])
def test_what_is_not_row_by_row_stays(kind: str) -> None:
    model = folded(kind)
    wanted = run(model, FEEDS)[0]
    assert unflatten_rows(model.graph) == 0
    np.testing.assert_allclose(run(model, FEEDS)[0], wanted, atol=1e-5)
