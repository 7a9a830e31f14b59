"""A scale and a shift behind a projection are folded where nothing else reads what is between."""

import numpy as np
import onnx_ir as ir
import pytest

from headway.exporter.graph.edit import nodes, remove_unused
from headway.exporter.passes.scales import FoldScales, fold_scales

from tests.support.hand_made import load, run
from tests.support.pass_checks import answers, largest_difference

ROUNDING = 1e-5
"""Each weight is rounded once more."""


def graph(*, bias: bool, shift: bool, residual: bool = False) -> ir.Model:
    from onnx.helper import make_node

    rng = np.random.default_rng(0)
    weights = {
        "table": rng.normal(size=(50, 8)).astype(np.float32),
        "w.weight": rng.normal(size=(8, 6)).astype(np.float32),
        "b": rng.normal(size=6).astype(np.float32),
        "s": rng.normal(size=6).astype(np.float32),
        "t": rng.normal(size=6).astype(np.float32),
    }
    steps = [make_node("Gather", ["table", "input_ids"], ["x"]), make_node("MatMul", ["x", "w.weight"], ["m"])]
    last = "m"
    for wanted, kind, name in ((bias, "Add", "b"), (True, "Mul", "s"), (shift, "Add", "t")):
        if wanted:
            steps.append(make_node(kind, [last, name], [f"{last}{name}"]))
            last = f"{last}{name}"
    steps.append(make_node("Add", [last, "mb" if residual else last], ["y"]))
    return load(steps, weights, ["y"])


@pytest.mark.parametrize("bias", [True, False])
@pytest.mark.parametrize("shift", [True, False])
def test_scales_are_folded(bias: bool, shift: bool) -> None:
    model = graph(bias=bias, shift=shift)
    feeds = {"input_ids": np.arange(12).reshape(2, 6), "attention_mask": np.ones((2, 6), np.int64)}
    (before,) = run(model, feeds)
    assert fold_scales(model.graph) == (["mb"] if bias else ["m"])
    remove_unused(model)
    assert nodes(model.graph, "Mul") == []
    np.testing.assert_allclose(run(model, feeds)[0], before, atol=ROUNDING)


def test_what_a_residual_reads_stays() -> None:
    assert fold_scales(graph(bias=True, shift=True, residual=True).graph) == []


def test_bottlenecks_of_mobilebert(family_models: dict[str, ir.Model]) -> None:
    """Two norms of each block follow a projection alone, and the others a residual."""
    model = family_models["mobilebert"].clone()
    before = answers(model)
    count = len(nodes(model.graph, "Mul"))
    step = FoldScales()
    step(model)
    assert step.report is not None and len(step.report.changes) == 4
    assert len(nodes(model.graph, "Mul")) == count - 4
    assert largest_difference(answers(model), before) < ROUNDING
