"""The list of forms: found by being there, read in order, and what is damaged is refused in a sentence."""

import pkgutil
from pathlib import Path

import numpy as np
import onnx_ir as ir
import pytest
from onnx import helper

from headway.errors import HeadwayWarning, SourceError
from headway.exporter.capture import forms
from headway.exporter.capture.forms.base import Reading
from headway.exporter.capture.onnx_file import OnnxReference, capture_onnx
from headway.exporter.capture.onnx_forms import known_forms, read_forms, say
from headway.exporter.source.source import open_source

from tests.support.hand_made import load


def test_every_module_of_the_folder_is_a_form() -> None:
    names = [m.name for m in pkgutil.iter_modules(forms.__path__) if m.name != "base"]
    assert len(known_forms()) == len(names) >= 9
    assert [f.order for f in known_forms()] == sorted(f.order for f in known_forms())
    claimed = [operator for form in known_forms() for operator in form.operators]
    assert len(claimed) == len(set(claimed))  # no operator has two readers


def test_operators_inside_functions_are_read() -> None:
    x = ir.Value(name="x", type=ir.TensorType(ir.DataType.FLOAT), shape=ir.Shape([2, 3]))
    inner = ir.Value(name="a")
    gelu = ir.node("Gelu", [inner], domain="com.microsoft")
    gelu.outputs[0].name = "b"
    body = ir.Graph([inner], gelu.outputs, nodes=[gelu], opset_imports={"": 17, "com.microsoft": 1})
    function = ir.Function("mine", "Act", graph=body, attributes=[])
    call = ir.node("Act", [x], domain="mine")
    call.outputs[0].name, call.outputs[0].type = "y", ir.TensorType(ir.DataType.FLOAT)
    graph = ir.Graph([x], call.outputs, nodes=[call], opset_imports={"": 17, "mine": 1, "com.microsoft": 1}, name="g")
    model = ir.Model(graph, ir_version=10, functions=[function])
    read_forms(model, Path("m.onnx"))
    assert "Erf" in {n.op_type for n in model.graph} and not {n.domain for n in model.graph} - {""}


def test_notes_become_warnings_that_name_the_file() -> None:
    model = load(
        [helper.make_node("Gather", ["t", "input_ids"], ["y"])], {"t": np.ones((4, 2), np.float32)}, ["y"], mask=False
    )
    with pytest.warns(HeadwayWarning, match=r"m\.onnx: what was done"):
        say(Reading(model, Path("m.onnx"), ["what was done"]))


def test_a_shape_that_lies_about_its_bytes_is_refused_before_anything_is_allocated(tmp_path: Path) -> None:
    import onnx

    nodes = [
        helper.make_node("Gather", ["t", "input_ids"], ["x"]),
        helper.make_node("DynamicQuantizeMatMul", ["x", "w", "s"], ["y"], domain="com.microsoft", name="n"),
    ]
    weights = {"t": np.ones((4, 2), np.float32), "w": np.ones((2, 3), np.int8), "s": np.ones(3, np.float32)}
    proto = ir.to_proto(load(nodes, weights, ["y"], mask=False))
    for tensor in proto.graph.initializer:
        if tensor.name == "w":
            tensor.dims[0] = 1 << 40
    onnx.save(proto, tmp_path / "m.onnx")
    with pytest.raises(SourceError, match=r"m\.onnx"):
        capture_onnx(open_source(str(tmp_path / "m.onnx")))


def test_a_file_that_onnx_runtime_lacks_an_operator_for_is_judged_as_it_was_read(tmp_path: Path) -> None:
    nodes = [
        helper.make_node("Gather", ["t", "input_ids"], ["x"]),
        helper.make_node("Gelu", ["x"], ["g"], domain="com.microsoft"),
        helper.make_node("Cast", ["g"], ["y"], to=1),
    ]
    import ml_dtypes

    table = np.linspace(-2, 2, 8).reshape(4, 2).astype(ml_dtypes.bfloat16)
    ir.save(load(nodes, {"t": table}, ["y"], mask=False), tmp_path / "m.onnx")
    reference = OnnxReference(open_source(str(tmp_path / "m.onnx")))
    assert reference.run({"input_ids": np.array([[1, 2]])})["y"].dtype == np.float32
    assert reference.judge.endswith("the file itself needs operators that ONNX Runtime does not have for CPUs")
    reference.close()
