"""What no reader of a form took is refused with the true reason, and with what to give instead."""

from pathlib import Path

import numpy as np
import onnx_ir as ir
import pytest
from onnx import helper

from headway.errors import SourceError
from headway.exporter.capture.onnx_refusals import refuse_unreadable

from tests.support.hand_made import load

TABLE = np.ones((50, 4), np.float32)


def model_of(*nodes, dtype: type = np.float32, **weights: np.ndarray) -> ir.Model:
    first = helper.make_node("Gather", ["table", "input_ids"], ["x"])
    return load([first, *nodes], {"table": TABLE.astype(dtype), **weights}, [nodes[-1].output[0]], mask=False)


@pytest.mark.parametrize(
    ("op_type", "domain"),
    [
        ("ConvInteger", ""),
        ("QLinearConv", ""),
        ("QOrderedMatMul", "com.microsoft"),
        ("QLinearAveragePool", "com.microsoft"),
        ("MatMulIntegerToFloat", "com.another"),
    ],
)
def test_quantized_operators_that_are_left_are_named(op_type: str, domain: str) -> None:
    model = model_of(helper.make_node("Identity", ["x"], ["y"]))
    node = ir.node(op_type, [model.graph.node(0).outputs[0]], domain=domain, name="the_first")
    model.graph.append(node)
    with pytest.raises(
        SourceError,
        match=rf"m\.onnx: a quantized graph with operators .* .{op_type}; first: node 'the_first'.*float32.*int8",
    ):
        refuse_unreadable(model, Path("m.onnx"))


def test_a_graph_of_float64_is_called_one() -> None:
    model = model_of(helper.make_node("Identity", ["x"], ["y"]), dtype=np.float64)
    with pytest.raises(SourceError, match=r"m\.onnx: a float64 graph .table is float64.*give the float32 model"):
        refuse_unreadable(model, Path("m.onnx"))


def test_pairs_of_scales_and_single_numbers_of_other_types_are_read() -> None:
    nodes = [
        helper.make_node("QuantizeLinear", ["x", "scale", "zero"], ["q"]),
        helper.make_node("DequantizeLinear", ["q", "scale", "zero"], ["y"]),
    ]
    model = model_of(*nodes, scale=np.float32(1), zero=np.int8(0), other=np.float64(0.5))
    refuse_unreadable(model, Path("m.onnx"))
