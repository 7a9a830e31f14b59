"""Files that cannot be read exactly are refused with the true reason, and with what to give instead."""

from pathlib import Path

import numpy as np
import onnx_ir as ir
import pytest
from onnx import helper

from headway.errors import SourceError
from headway.exporter.capture.onnx_refusals import refuse_unreadable

from tests.support.hand_made import load

TABLE = np.ones((50, 4), np.float32)


def model_of(*nodes, dtype=np.float32, **weights: np.ndarray) -> ir.Model:
    first = helper.make_node("Gather", ["table", "input_ids"], ["x"])
    return load([first, *nodes], {"table": TABLE.astype(dtype), **weights}, [nodes[-1].output[0]], mask=False)


@pytest.mark.parametrize(
    ("op_type", "domain"),
    [
        ("DynamicQuantizeLinear", ""),
        ("MatMulInteger", ""),
        ("QLinearMatMul", ""),
        ("QLinearAdd", "com.microsoft"),
        ("QGemm", "com.microsoft"),
        ("MatMulNBits", "com.microsoft"),
        ("DynamicQuantizeMatMul", "com.microsoft"),
    ],
)
def test_a_quantized_graph_is_called_one(op_type: str, domain: str) -> None:
    model = model_of(helper.make_node("Identity", ["x"], ["y"]))
    node = ir.node(op_type, [model.graph.node(0).outputs[0]], domain=domain, name="the_first")
    model.graph.append(node)
    with pytest.raises(
        SourceError, match=f"m.onnx: a quantized graph .{op_type}; first: node 'the_first'.*float32.*int8"
    ):
        refuse_unreadable(model, Path("m.onnx"))


@pytest.mark.parametrize(("dtype", "name"), [(np.float16, "float16"), (np.float64, "float64")])
def test_a_graph_of_other_floats_is_called_one(dtype: type, name: str) -> None:
    model = model_of(helper.make_node("Identity", ["x"], ["y"]), dtype=dtype)
    with pytest.raises(SourceError, match=f"m.onnx: a {name} graph .table is {name}.*give the float32 model"):
        refuse_unreadable(model, Path("m.onnx"))


def test_pairs_of_scales_and_single_numbers_of_other_types_are_read() -> None:
    nodes = [
        helper.make_node("QuantizeLinear", ["x", "scale", "zero"], ["q"]),
        helper.make_node("DequantizeLinear", ["q", "scale", "zero"], ["y"]),
    ]
    model = model_of(*nodes, scale=np.float32(1), zero=np.int8(0), other=np.float64(0.5))
    refuse_unreadable(model, Path("m.onnx"))
