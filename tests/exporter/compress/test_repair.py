"""Repair: nothing to do, a solution that exists, other text than it learned from."""

from pathlib import Path

import numpy as np
import pytest

from headway.exporter.compress.repair import repair
from headway.exporter.graph.anatomy import read_anatomy
from headway.exporter.graph.edit import constant
from headway.exporter.graph.torch_graph import TorchGraph
from headway.exporter.passes.blocks import RemoveParts
from headway.exporter.passes.cuts import set_array
from headway.exporter.passes.heads import RemoveHeads
from headway.exporter.passes.neurons import RemoveNeurons

from tests.support.compressing import batches, error
from tests.support.variants import canonical


def test_identity_repair_changes_nothing(bert: Path) -> None:
    source, made = canonical(bert), batches()
    model = source.clone()
    gains = repair(TorchGraph(source), model, made)
    assert error(TorchGraph(source), model, made) < 1e-6
    assert len(gains) == 8 and all(g == 1 for g in gains.values())  # rounding noise is no gain, and has no logarithm


@pytest.mark.parametrize("method", ["projection", "scale"])
def test_repair_brings_answers_nearer_on_other_text(bert: Path, method: str) -> None:
    source, made, others = canonical(bert), batches(120), batches(40, seed=7)
    graph = TorchGraph(source)
    model = source.clone()
    RemoveNeurons({(b.index, 0): range(0, 64, 2) for b in read_anatomy(model).blocks})(model)
    RemoveHeads({0: [0, 1, 2], 1: [1, 3], 3: [0, 1, 2]})(model)
    RemoveParts(attentions=[2])(model)
    before = error(graph, model, others)
    gains = repair(graph, model, made, method=method)  # type: ignore[arg-type]
    assert len(gains) == 8
    assert all(g >= 1 for g in gains.values())
    assert error(graph, model, others) < (0.7 if method == "projection" else 0.97) * before


def test_repair_solves_exactly_where_a_solution_exists(bert: Path) -> None:
    """Two equal neurons: one goes, the other takes its part over, and nothing is lost."""
    source = canonical(bert)
    graph = source.graph
    up, bias, down = (
        constant(graph.initializers[f"encoder.layer.1.{n}"])
        for n in ("intermediate.dense.weight", "intermediate.dense.bias", "output.dense.weight")
    )
    assert up is not None and bias is not None and down is not None
    up, bias = up.copy(), bias.copy()
    up[:, 5], bias[5] = up[:, 6], bias[6]
    set_array(graph.initializers["encoder.layer.1.intermediate.dense.weight"], up)
    set_array(graph.initializers["encoder.layer.1.intermediate.dense.bias"], bias)
    made, model = batches(120), source.clone()
    RemoveNeurons({(1, 0): [i for i in range(64) if i != 5]})(model)
    before = error(TorchGraph(source), model, made)
    repair(TorchGraph(source), model, made, ridge=1e-6)
    assert error(TorchGraph(source), model, made) < 1e-4 * before


@pytest.mark.parametrize("method", ["projection", "scale"])
def test_parts_that_give_zeros_on_all_text_are_left_alone(bert: Path, method: str) -> None:
    """As of neurons that are never active: nothing determines what reads them, or what nothing is to be added by."""
    source = canonical(bert)
    names = "intermediate.dense.weight", "intermediate.dense.bias", "output.dense.weight", "output.dense.bias"
    for layer, zeros in ((1, names[:2]), (2, names[2:]), (3, names)):
        for name in zeros:
            value = source.graph.initializers[f"encoder.layer.{layer}.{name}"]
            array = constant(value)
            assert array is not None
            set_array(value, np.zeros_like(array))
    model = source.clone()
    RemoveHeads({0: [0, 1, 2]})(model)
    gains = repair(TorchGraph(source), model, batches(), method=method)  # type: ignore[arg-type]
    assert len(gains) == 8 and all(1 <= gain < np.inf for gain in gains.values()) and max(gains.values()) > 1
    arrays = [constant(value) for value in model.graph.initializers.values()]
    assert all(np.isfinite(a).all() for a in arrays if a is not None)
