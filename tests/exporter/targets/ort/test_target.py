"""Target ort: what is fused, what the session is told, and what it would be refused for."""

from dataclasses import replace
from pathlib import Path

import numpy as np
import onnx_ir as ir

from headway.exporter.graph.anatomy import read_anatomy
from headway.exporter.graph.edit import nodes
from headway.exporter.graph.parts import UNREAD
from headway.exporter.targets.ort.int8 import CONTRIB
from headway.exporter.targets.ort.target import SLOW_FUSIONS, OrtTarget, files, lower, session_options, write
from headway.processor import X64_PRECISION

from tests.support.variants import answers, apart, canonical, feeds


def test_attention_has_a_branch_without_a_mask(bert: Path, tmp_path: Path) -> None:
    model = canonical(bert)
    expected = {padded: answers(model, feeds(padded=padded)) for padded in (True, False)}
    counts = lower(model, read_anatomy(model)).as_dict()
    assert counts == {"attention": 4, "gelu": 4}
    choices = nodes(model.graph, "If")
    assert len(choices) == 4 and len({n.inputs[0] for n in choices}) == 1
    inputs = {
        name: len(next(iter(choices[0].attributes[name].as_graph())).inputs) for name in ("then_branch", "else_branch")
    }
    assert inputs == {"then_branch": 3, "else_branch": 5}
    write(model, tmp_path)
    runner = OrtTarget().open(tmp_path, session_options(regroup=False), threads=1)
    for padded, wanted in expected.items():
        given = feeds(padded=padded)
        assert apart(wanted, runner.run(given), given) < 1e-4
    assert [p.name for p in files(tmp_path)] == ["model.onnx", "model.onnx.data"]


def test_the_session_is_kept_from_slow_fusions() -> None:
    stock, own = session_options(regroup=True), session_options(regroup=False, kernels="custom")
    assert set(SLOW_FUSIONS) == set(stock["disabled_optimizers"]) < set(own["disabled_optimizers"])
    assert stock["regroup"] and not own["regroup"]
    assert own["kernels"] and "kernels" not in stock
    assert stock["config"][X64_PRECISION] == "1"


def test_an_attention_of_no_known_form_stays_and_all_others_are_lowered(bert: Path) -> None:
    """Also one whose projections the anatomy does not know."""
    model = canonical(bert)
    anatomy = replace(read_anatomy(model), blocks=read_anatomy(model).blocks[1:])
    left = next(n for n in model.graph if n.op_type == "Attention")
    left.meta[UNREAD] = "it has a form of its own"
    assert lower(model, anatomy).attention == 3
    assert [n for n in model.graph if n.op_type == "Attention" and n.domain == ""] == [left]


def test_the_tanh_gelu_takes_its_bias_along() -> None:
    x = ir.Value(name="x", shape=ir.Shape(["n", 4]), type=ir.TensorType(ir.DataType.FLOAT))
    bias = ir.Value(name="bias", shape=ir.Shape([4]), type=ir.TensorType(ir.DataType.FLOAT))
    bias.const_value = ir.tensor(np.ones(4, np.float32), name="bias")
    add, gelu = ir.node("Add", [x, bias]), None
    add.outputs[0].name, add.outputs[0].shape, add.outputs[0].type = "sum", x.shape, x.type
    gelu = ir.node("Gelu", [add.outputs[0]], attributes={"approximate": "tanh"})
    gelu.outputs[0].name, gelu.outputs[0].shape, gelu.outputs[0].type = "y", x.shape, x.type
    graph = ir.Graph([x], [gelu.outputs[0]], nodes=[add, gelu], initializers=[bias], opset_imports={"": 20})
    model = ir.Model(graph, ir_version=10)
    lower(model, read_anatomy(model))
    (fused,) = list(model.graph)
    assert (fused.domain, fused.op_type, list(fused.inputs)) == (CONTRIB, "FastGelu", [x, bias])
