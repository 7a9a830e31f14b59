"""Removing neurons: exact where they contribute nothing, refused where a node fixes the width."""

import numpy as np
import onnx_ir as ir
import pytest

from headway.errors import UsageError
from headway.exporter.graph.anatomy import read_anatomy
from headway.exporter.graph.edit import initializer, insert
from headway.exporter.passes.neurons import RemoveNeurons

from tests.support.pass_checks import answers, by_runtime, gate, largest_difference


@pytest.mark.parametrize("family", ["bert", "modernbert", "mobilebert"])
def test_removal_equals_closed_gates(family: str, family_models: dict[str, ir.Model]) -> None:
    """Plain, gated, and several feed-forwards in a block."""
    model = family_models[family].clone()
    block = read_anatomy(model).blocks[0]
    kept_neurons = [0, 3, 40]
    last = len(block.feed_forwards) - 1
    wanted = answers(model, {block.feed_forwards[last].down.input: gate(np.array(kept_neurons))})
    RemoveNeurons({(0, last): kept_neurons})(model)
    assert largest_difference(wanted, answers(model)) < 1e-5
    assert largest_difference(wanted, by_runtime(model)) < 1e-5
    assert [f.width for f in read_anatomy(model).blocks[0].feed_forwards] == [64] * last + [3]


def test_without_neurons_the_constant_of_the_bias_stays(bert_model: ir.Model) -> None:
    model = bert_model.clone()
    down = read_anatomy(model).blocks[1].feed_forwards[0].down
    wanted = answers(model, {down.input: lambda x: x * 0})
    structural_pass = RemoveNeurons({(1, 0): []})
    structural_pass(model)
    assert largest_difference(wanted, answers(model)) < 1e-6
    assert not read_anatomy(model).blocks[1].feed_forwards
    assert structural_pass.report is not None and structural_pass.report.changes == {"block 1": "neurons 64 → 0"}


def test_a_node_that_fixes_the_width_is_named(bert_model: ir.Model) -> None:
    model = bert_model.clone()
    gelu = next(n for n in model.graph if n.op_type == "Gelu")
    x = gelu.inputs[0]
    scale = ir.Value(name="scale", shape=ir.Shape([64]), const_value=ir.Tensor(np.ones(64, np.float32), name="scale"))
    model.graph.register_initializer(scale)
    scaled = ir.node("Mul", [x, scale], name="fixed")
    assert x is not None
    scaled.outputs[0].shape, scaled.outputs[0].type = x.shape, x.type
    model.graph.insert_before(gelu, scaled)
    gelu.replace_input_with(0, scaled.outputs[0])
    with pytest.raises(UsageError, match="'fixed' \\(Mul\\) fixes the width"):
        RemoveNeurons({(0, 0): [1]})(model)


def gated(model: ir.Model) -> ir.Model:
    """Return a copy whose first feed-forward multiplies its activations with a second weight's results, bias included."""
    changed = model.clone()
    graph = changed.graph
    forward = read_anatomy(changed).blocks[0].feed_forwards[0]
    gelu = next(n for n in graph if n.op_type == "Gelu")
    rng = np.random.default_rng(3)
    weight = initializer(graph, "second.weight", rng.normal(size=(32, 64)).astype(np.float32))
    bias = initializer(graph, "second.bias", rng.normal(size=64).astype(np.float32))
    first = forward.down.node
    shape = list(gelu.outputs[0].shape or ())
    product = insert(
        first, "MatMul", [forward.up.input, weight], name="second.product", dtype=ir.DataType.FLOAT, shape=shape
    )
    second = insert(first, "Add", [product, bias], name="second", dtype=ir.DataType.FLOAT, shape=shape)
    both = insert(first, "Mul", [gelu.outputs[0], second], name="both", dtype=ir.DataType.FLOAT, shape=shape)
    first.replace_input_with(0, both)
    return changed


def test_a_gate_that_is_a_weight_of_its_own_is_cut_too(bert_model: ir.Model) -> None:
    model = gated(bert_model)
    forward = read_anatomy(model).blocks[0].feed_forwards[0]
    assert forward.gated and forward.factor is not None and forward.factor.weight == "second.weight"
    wanted = answers(model, {forward.down.input: gate(np.array([0, 3, 40]))})
    RemoveNeurons({(0, 0): [0, 3, 40]})(model)
    after = read_anatomy(model).blocks[0].feed_forwards[0]
    assert [p.out_features for p in after.before] == [3, 3] and after.width == 3
    assert largest_difference(wanted, answers(model)) < 1e-5
    assert largest_difference(wanted, by_runtime(model)) < 1e-5
