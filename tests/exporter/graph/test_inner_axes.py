"""Axes of inner values, named by running."""

import numpy as np
import onnx_ir as ir
import pytest
from onnx import helper

from headway.exporter.graph.inner_axes import name_inner_axes
from headway.exporter.graph.probe import Prober

from tests.support.hand_made import load


@pytest.fixture
def model() -> ir.Model:
    n = helper.make_node
    nodes = [
        n("Gather", ["table", "input_ids"], ["x"]),
        n("Transpose", ["x"], ["turned"], perm=[1, 0, 2]),
        n("Reshape", ["x", "flat"], ["rows"]),
        n("ReduceMax", ["x", "one"], ["text"], keepdims=0),
    ]
    weights = {"table": np.ones((50, 6), np.float32), "flat": np.array([-1, 6]), "one": np.array([1])}
    model = load(nodes, weights, ["x"])
    for value in model.graph.inputs:
        value.shape = ir.Shape(["batch", "sequence"])
    for i, node in enumerate(model.graph):
        value = node.outputs[0]
        value.shape = ir.Shape(
            [d if isinstance(d, int) else f"unk__{2 * i + k}" for k, d in enumerate(value.shape or ())]
        )
    return model


def axes(model: ir.Model) -> dict[str, list]:
    values = [v for node in model.graph for v in node.outputs]
    return {str(v.name): [getattr(d, "value", d) for d in v.shape or ()] for v in values}


@pytest.mark.parametrize("longest", [3, 512])
def test_axes_are_named_by_what_changes_them(model: ir.Model, longest: int) -> None:
    assert name_inner_axes(model.graph, Prober(model, 50), longest) == 5
    assert axes(model) == {
        "x": ["batch", "sequence", 6],
        "turned": ["sequence", "batch", 6],
        "rows": ["unk__4", 6],  # both at once
        "text": ["batch", 6],
    }
    assert name_inner_axes(model.graph, Prober(model, 50), longest) == 0


def test_nothing_runs_where_all_axes_have_names(model: ir.Model, monkeypatch: pytest.MonkeyPatch) -> None:
    for node in model.graph:
        node.outputs[0].shape = ir.Shape(["batch", "sequence", 6])
    monkeypatch.setattr(Prober, "runs", lambda *_: pytest.fail("ran"))
    assert name_inner_axes(model.graph, Prober(model, 50), 512) == 0
