"""Graphs of 16-bit floats: the same numbers in float32, and how far the file's own arithmetic is."""

from pathlib import Path

import ml_dtypes
import numpy as np
import onnx
import onnx_ir as ir
import pytest
from onnx import helper, numpy_helper

from headway.errors import HeadwayWarning
from headway.exporter.export import export
from headway.exporter.graph.edit import constant
from headway.exporter.recipe.recipe import Recipe

from tests.support.hand_made import load
from tests.support.tool_forms import FEEDS, anatomy_of, as_read, file_outputs, fused, read, run


def half(keep: bool):
    def make(plain: Path, out: Path) -> None:
        from onnxruntime.transformers.float16 import convert_float_to_float16

        onnx.save(convert_float_to_float16(onnx.load(plain), keep_io_types=keep), out)

    return make


@pytest.mark.parametrize("make", [half(True), half(False), fused(half=True)], ids=["float outputs", "half", "fused"])
def test_a_float16_file_is_widened(make, made, anatomy: dict) -> None:
    path = made(make)
    with pytest.warns(
        HeadwayWarning, match=r"float16 weights are read as the same numbers in float32; headway compress"
    ):
        captured, model = read(path)
    assert {v.dtype for v in model.graph.initializers.values()} <= {
        ir.DataType.FLOAT,
        ir.DataType.INT64,
        ir.DataType.BOOL,
    }
    tables = [a for i in onnx.load(path).graph.initializer if (a := numpy_helper.to_array(i)).shape == (300, 32)]
    word = next(constant(v) for n, v in model.graph.initializers.items() if n.endswith("word_embeddings.weight"))
    assert word is not None and np.array_equal(word, tables[0].astype(np.float32))
    assert anatomy_of(model) == anatomy
    judged = captured.reference.run(FEEDS)["logits"]
    assert judged.dtype == np.float32 and np.abs(run(model) - judged).max() < 1e-6
    assert 0 < np.abs(file_outputs(path) - judged).max() < 2e-2 * max(1, np.abs(judged).max())
    assert "without the rounding of float16 between operators; the file itself differs" in captured.reference.judge


def test_a_float16_file_is_exported(made, tmp_path: Path) -> None:
    done = export(Recipe(source=str(made(half(False)))), tmp_path / "out")
    assert {o.dtype for o in done.manifest.outputs} == {"float32"}
    assert max(o.max_abs for o in done.parity.outputs) < 1e-5


def test_bfloat16_and_constants_inside_nodes() -> None:
    table = np.array([[1.5, -3.0], [0.1, 2.0]]).astype(ml_dtypes.bfloat16)
    nodes = [
        helper.make_node("Gather", ["table", "input_ids"], ["x"]),
        helper.make_node("Constant", [], ["two"], value=numpy_helper.from_array(np.array(2, ml_dtypes.bfloat16))),
        helper.make_node("Mul", ["x", "two"], ["doubled"]),
        helper.make_node("Cast", ["doubled"], ["y"], to=int(onnx.TensorProto.FLOAT)),
    ]
    reading = as_read(load(nodes, {"table": table}, ["y"], mask=False))
    ids = {"input_ids": np.array([[1, 0]])}
    np.testing.assert_array_equal(run(reading.model, ids), 2 * table.astype(np.float32)[ids["input_ids"]])
    assert reading.rounded == ["the rounding of bfloat16 between operators"]
    assert "--quantize" not in reading.notes[0]


def test_numbers_of_gelu_are_known_by_their_rounding() -> None:
    """Others keep what they are rounded to."""
    nodes = [
        helper.make_node("Gather", ["table", "input_ids"], ["x"]),
        helper.make_node("Div", ["x", "root"], ["a"]),
        helper.make_node("Mul", ["a", "other"], ["y16"]),
        helper.make_node("Cast", ["y16"], ["y"], to=int(onnx.TensorProto.FLOAT)),
    ]
    table, root, other = np.ones((4, 2), np.float16), np.float16(np.sqrt(2)), np.float16(0.3)
    weights = {"table": table, "root": np.asarray(root), "other": np.asarray(other)}
    graph = as_read(load(nodes, weights, ["y"], mask=False)).graph
    root32, other32 = (constant(graph.initializers[n]) for n in ("root", "other"))
    assert root32 == np.float32(np.sqrt(2)) and other32 == np.float32(other) != np.float32(0.3)


def test_a_float32_graph_stays_as_it_is(plain: Path) -> None:
    reading = as_read(ir.load(plain))
    assert not reading.notes and not reading.rounded
