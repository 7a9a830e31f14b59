"""What readers of forms share: names, notes, refusals, and graph outputs that keep their names."""

from pathlib import Path

import numpy as np
import onnx_ir as ir
import pytest
from onnx import helper

from headway.errors import SourceError
from headway.exporter.capture.forms.base import Form, Reading, drop, finish, integers, number, op, operators, source_of
from headway.exporter.graph.stored_weights import stored_of

from tests.support.hand_made import load


def reading() -> Reading:
    nodes = [
        helper.make_node("Gather", ["table", "input_ids"], ["x"], name="look"),
        helper.make_node("Cast", ["x"], ["c"], to=1),
        helper.make_node("Neg", ["c"], ["y"], name="turn"),
    ]
    return Reading(load(nodes, {"table": np.ones((4, 2), np.float32)}, ["y"], mask=False), Path("m.onnx"))


def test_an_output_of_the_graph_keeps_its_name_whatever_computes_it() -> None:
    of = reading()
    turn = of.graph.node("turn")
    finish(turn, op(turn, "Abs", [turn.inputs[0]], "float"))
    drop(of, turn)
    assert [v.name for v in of.graph.outputs] == ["y"] and of.graph.outputs[0].producer().op_type == "Abs"  # type: ignore[union-attr]
    last = of.graph.outputs[0].producer()
    assert last is not None
    finish(last, of.graph.initializers["table"])  # which is no result of a node
    assert of.graph.outputs[0].name == "y" and of.graph.outputs[0].producer().op_type == "Identity"  # type: ignore[union-attr]


def test_a_node_whose_output_is_still_read_is_not_dropped() -> None:
    of = reading()
    with pytest.raises(SourceError, match=r"m\.onnx: node 'look' .Gather.: its output 'x' is read"):
        drop(of, of.graph.node("look"))


def test_weights_are_noted_under_a_name_that_is_free() -> None:
    of = reading()
    look = of.graph.node("look")
    q, scale = np.array([[1, -2]], np.int8), np.array(0.5, np.float32)
    weight = of.weight(look, "table_quantized", q, scale)
    assert weight.name == "table.float" and np.array_equal(stored_of(of.model)["table.float"].q, q)
    assert of.weight(look, "table_quantized", q, scale) is weight
    wide = of.weight(look, "w", np.array([[0, 999]]), scale)
    assert str(wide.name) not in stored_of(of.model) and of.notes == [
        "w: its integers are of more than 8 bits; held as the float32 values that they stand for"
    ]
    with pytest.raises(SourceError, match=r"'look' .Gather.: a scale is not finite"):
        of.weight(look, "w", q, np.array(np.inf))
    with pytest.raises(SourceError, match=r"'look' .Gather.: its ids is not a constant of the file"):
        of.array(look, 1, "ids")


def test_notes_are_said_once_and_constants_made_once() -> None:
    of = reading()
    for _ in range(2):
        of.note("a"), of.rounds("b")
    assert of.notes == ["a"] and of.rounded == ["b"]
    assert number(of, 0.5) is number(of, 0.5) and integers(of, 1, -1) is integers(of, 1, -1)
    turn = of.graph.node("turn")
    assert source_of(turn.inputs[0]) is of.graph.node("look").outputs[0]


def test_a_form_names_its_operators() -> None:
    form = Form(0, operators("A", "B"), lambda *_: None)
    assert form.operators == {("com.microsoft", "A"), ("com.microsoft", "B")} and not form.always
    assert ir.DataType.FLOAT
