"""Queries and edits on small graphs."""

import numpy as np
import onnx_ir as ir
import pytest

from headway.errors import SourceError
from headway.exporter.graph import edit


def value(name: str, *shape: int | str) -> ir.Value:
    return ir.Value(name=name, shape=ir.Shape(shape), type=ir.TensorType(ir.DataType.FLOAT))


def chain() -> ir.Model:
    """Return a graph `x → Relu a → Shape b`, and `a → Neg c → Add(c, a) out`."""
    x = value("x", "batch", 4)
    first = ir.node("Relu", [x], name="relu")
    sizes = ir.node("Shape", [first.outputs[0]], name="shape")
    negative = ir.node("Neg", [first.outputs[0]], name="neg")
    last = ir.node("Add", [negative.outputs[0], first.outputs[0]], name="add")
    for node, name in ((first, "a"), (sizes, "b"), (negative, "c"), (last, "out")):
        node.outputs[0].name = name
        node.outputs[0].shape, node.outputs[0].type = x.shape, x.type
    graph = ir.Graph([x], last.outputs, nodes=[first, sizes, negative, last], opset_imports={"": 23}, name="g")
    return ir.Model(graph, ir_version=10)


def test_attributes_are_typed() -> None:
    attributes = {"axis": 2, "epsilon": 0.5, "mode": "edge", "perm": [1, 0]}
    node = ir.node("Any", [], attributes=attributes, name="odd")
    assert edit.attribute_int(node, "axis") == edit.optional_int(node, "axis") == 2
    assert edit.attribute_float(node, "epsilon") == edit.optional_float(node, "epsilon") == 0.5
    assert edit.attribute_string(node, "mode") == "edge"
    assert edit.attribute_ints(node, "perm") == [1, 0]


def test_an_attribute_that_is_not_there_is_the_default_or_named() -> None:
    node = ir.node("Any", [], name="odd")
    assert edit.attribute_int(node, "axis", 0) == 0
    assert edit.attribute_ints(node, "perm", range(2)) == [0, 1]
    assert edit.optional_int(node, "axis") is None and edit.optional_float(node, "scale") is None
    with pytest.raises(SourceError, match=r"'odd' \(Any\) lacks its attribute 'axis'"):
        edit.attribute_int(node, "axis")


def test_an_initializer_is_reused_where_it_is_equal() -> None:
    graph = chain().graph
    first = edit.initializer(graph, "ones", np.ones(3))
    assert edit.initializer(graph, "ones", np.ones(3)) is first
    with pytest.raises(ValueError, match="'ones' exists with another value"):
        edit.initializer(graph, "ones", np.zeros(3))


def test_ancestors_are_nearest_first_and_stop_where_told() -> None:
    graph = chain().graph
    values = ir.convenience.create_value_mapping(graph)
    assert [v.name for v in edit.ancestors(values["out"])] == ["out", "c", "a", "x"]
    assert [v.name for v in edit.ancestors(values["out"], stop={values["a"]})] == ["out", "c", "a"]
    assert [v.name for v in edit.ancestors(values["b"], by_shape=False)] == ["b"]


def test_what_replaces_an_output_can_take_its_name() -> None:
    model = chain()
    values = ir.convenience.create_value_mapping(model.graph)
    node = edit.put(model.graph[-1], values["out"], "Abs", [values["c"], None], domain="")
    assert [v.name for v in model.graph.outputs] == ["out"] and model.graph.outputs[0] is node.outputs[0]
    assert len(node.inputs) == 1
    edit.remove_unused(model)
    assert [n.op_type for n in model.graph] == ["Relu", "Neg", "Abs"]


def test_small_questions() -> None:
    graph = chain().graph
    values = ir.convenience.create_value_mapping(graph)
    assert edit.producer(values["a"], "Relu") is graph[0] and edit.producer(values["a"], "Neg") is None
    assert [n.name for n in edit.consumers(values["a"])] == ["shape", "neg", "add"]
    assert edit.other_input(graph[-1], values["a"]) is values["c"]
    assert edit.read_once(values["c"]) and not edit.read_once(values["a"]) and not edit.read_once(values["out"])
    assert edit.same_shape(values["c"], values["a"])
    assert edit.first_of(graph, [graph[-1], graph[2]]) is graph[2]
    assert edit.dims(values["x"]) == [None, 4] and edit.sequence_axis(values["x"]) is None
    assert edit.sequence_axis(value("s", "batch", "sequence", 4)) == 1
    five = edit.initializer(graph, "five", np.array([5.0], np.float32))
    assert edit.scalar(five) == 5.0 and edit.scalar(values["a"]) is None


def test_a_projection_is_found_through_transpose_and_dequantization(bert_model: ir.Model) -> None:
    for node in edit.nodes(bert_model.graph, "MatMul"):
        weight = edit.projection_weight(node)
        if weight is None:
            assert not edit.is_projection(node)
            continue
        module = edit.module_of(node)
        assert edit.is_projection(node) and module is not None and str(weight.name).startswith(module)
        bias = edit.bias_of(edit.bias_add(node))
        assert bias is None or str(bias.name) == f"{module}.bias"
