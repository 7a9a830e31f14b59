"""The canonical form of every family, and what it refuses."""

from pathlib import Path

import numpy as np
import onnx
import onnx_ir as ir
import pytest
from onnx import TensorProto, helper

from headway.errors import SourceError
from headway.exporter.capture.capture import capture
from headway.exporter.export import export
from headway.exporter.graph.anatomy import read_anatomy
from headway.exporter.graph.canonical import _name_inputs, canonicalize
from headway.exporter.recipe.recipe import Recipe
from headway.exporter.source.source import open_source

from tests.support import models
from tests.support.hand_made import decomposed, load, run
from tests.support.onnx_files import torchscript_file
from tests.support.refusals import refused
from tests.support.supported import DISENTANGLED
from tests.support.variants import canonical


@pytest.mark.parametrize("family", sorted(set(models.FAMILIES) - DISENTANGLED))
def test_canonical_form(family: str, tmp_path: Path) -> None:
    source = open_source(str(models.make_model(tmp_path / "source", family)))
    captured = capture(source)
    model = canonicalize(captured.model, longest=64).model
    graph = model.graph
    kinds = [n.op_type for n in graph]
    anatomy = read_anatomy(model)
    assert graph.opset_imports[""] == 23
    assert {n.domain for n in graph} == {""}
    assert kinds.count("Attention") == len(anatomy.blocks)
    assert not {"Softmax", "Erf", "Gemm", "GatherND", "IsNaN", "Identity", "Dropout"} & set(kinds)
    biases = {n.inputs[3].name for n in graph if n.op_type == "Attention"}
    assert len(biases) <= (2 if family == "modernbert" else 1)
    for node in graph:
        if node.op_type == "Attention":
            assert [len(v.shape) for v in node.inputs[:3]] == [3, 3, 3]
            assert node.attributes["q_num_heads"].value == 4
    parameters = {n for n, _ in captured.reference.module.model.named_parameters()}  # type: ignore[attr-defined]
    named = [n for n in graph.initializers if graph.initializers[n].const_value.size >= 16]  # type: ignore[union-attr]
    missing = [
        n
        for n in named
        if n not in parameters and "position_ids" not in n and "inv_freq" not in n and "token_type_ids" not in n
    ]
    assert not missing, missing


def test_a_weight_under_a_number_is_named_after_its_bias() -> None:
    """As TorchScript's exporter stores it; a weight with a name of its own keeps it."""
    model = decomposed("mul", "keep", 0)
    model.graph.initializers["q.weight"].name = "onnx::MatMul_12"
    model.graph.initializers["k.weight"].name = "keys"
    names = set(canonicalize(model, longest=64).model.graph.initializers)
    assert {"q.weight", "keys", "v.weight"} <= names and "onnx::MatMul_12" not in names


def test_saved_canonical_graph_passes_the_checker(bert: Path, tmp_path: Path) -> None:
    import onnx

    ir.save(canonical(bert), tmp_path / "m.onnx")
    onnx.checker.check_model(str(tmp_path / "m.onnx"), full_check=True)


def test_runtime_specific_operators_are_refused() -> None:
    nodes = [
        helper.make_node("Gather", ["table", "input_ids"], ["x"]),
        helper.make_node("Gelu", ["x"], ["out"], name="contrib", domain="com.microsoft"),
    ]
    model = load(nodes, {"table": np.ones((50, 2), np.float32)}, ["out"], mask=False)
    with pytest.raises(SourceError, match="contrib"):
        canonicalize(model, longest=64)


def test_fixed_shapes_are_refused(tmp_path: Path) -> None:
    path = torchscript_file(tmp_path / "source", "bert", 17, "sdpa")
    model = onnx.load(path)
    for value in model.graph.input:
        for dim in value.type.tensor_type.shape.dim:
            dim.dim_value = 9
    onnx.save(model, path)
    with pytest.raises(SourceError, match=r"dynamic|fixed"):
        export(Recipe(source=str(path)), tmp_path / "out")


def test_one_name_for_two_axes_says_nothing() -> None:
    model = decomposed("mul", "keep", 0)
    for value in [*model.graph.inputs, *(v for n in model.graph for v in n.outputs)]:
        if value.shape is not None:
            value.shape = ir.Shape([d if isinstance(d, int) else "N" for d in value.shape])
    graph = canonicalize(model, longest=64).model.graph
    for value in [*graph.inputs, *graph.outputs]:
        assert value.shape is not None and [getattr(d, "value", d) for d in value.shape][:2] == ["batch", "sequence"]


def test_ids_in_int32_are_widened_where_they_are_looked_up_and_stay_what_else_reads_them() -> None:
    """Indices may be of either width; a comparison needs the type that it was written for."""
    table = np.random.default_rng(0).normal(size=(50, 4)).astype(np.float32)
    weights = {"table": table, "zero": np.array([0]), "start": np.array(7, np.int32), "axes": np.array([1])}
    nodes = [
        helper.make_node("Gather", ["table", "input_ids"], ["x"]),
        helper.make_node("Gather", ["input_ids", "zero"], ["first"], axis=1),
        helper.make_node("Equal", ["first", "start"], ["begins"]),
        helper.make_node("Cast", ["begins"], ["factor"], to=TensorProto.FLOAT),
        helper.make_node("Unsqueeze", ["factor", "axes"], ["factors"]),
        helper.make_node("Mul", ["x", "factors"], ["y"]),
    ]
    model = load(nodes, weights, ["y"], mask=False)
    values = ir.convenience.create_value_mapping(model.graph)
    for name in ("input_ids", "first"):
        values[name].type = ir.TensorType(ir.DataType.INT32)
    ids, _ = _name_inputs(model.graph)
    lookup = next(n for n in model.graph if n.outputs[0].name == "x")
    assert lookup.inputs[1] is ids and ids.dtype == ir.DataType.INT64
    given = np.array([[7, 3], [5, 7]])
    np.testing.assert_array_equal(run(model, {"input_ids": given})[0], table[given] * np.array([1, 0])[:, None, None])


def onnx_file(path: Path, *nodes: onnx.NodeProto) -> Path:
    ids = [helper.make_tensor_value_info(n, TensorProto.INT64, ["b", "s"]) for n in ("input_ids", "attention_mask")]
    out = helper.make_tensor_value_info("y", TensorProto.FLOAT, None)
    table = helper.make_tensor("table", TensorProto.FLOAT, [50, 4], [0.1] * 200)
    graph = helper.make_graph(list(nodes), "g", ids, [out], [table])
    onnx.save(
        helper.make_model(
            graph, opset_imports=[helper.make_opsetid("", 17), helper.make_opsetid("strange.domain", 1)], ir_version=9
        ),
        path,
    )
    return path


def test_unsupported_operator(tmp_path: Path) -> None:
    path = onnx_file(
        tmp_path / "m.onnx",
        helper.make_node("Gather", ["table", "input_ids"], ["x"]),
        helper.make_node("Frobnicate", ["x"], ["y"], name="odd", domain="strange.domain"),
    )
    models.make_tokenizer(tmp_path)
    (tmp_path / "config.json").write_text("{}")
    error = refused(path, tmp_path / "out")
    assert error.exit_code == 3
    assert "Frobnicate" in str(error)
