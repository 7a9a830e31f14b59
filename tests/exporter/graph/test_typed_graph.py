"""Graphs in float16 and bfloat16, rounded where their types say so."""

import numpy as np
import onnx_ir as ir
import pytest
import torch

from headway.exporter.graph.typed_graph import TypedGraph


def squared(dtype: ir.DataType) -> ir.Model:
    """Return a graph `Cast(x) → Mul by itself`, in a float type of 16 bits."""
    x = ir.Value(name="x", shape=ir.Shape([2]), type=ir.TensorType(ir.DataType.FLOAT))
    cast = ir.node("Cast", [x], attributes={"to": int(dtype)}, name="cast")
    square = ir.node("Mul", [cast.outputs[0], cast.outputs[0]], name="square")
    for node, name in ((cast, "low"), (square, "y")):
        node.outputs[0].name, node.outputs[0].type = name, ir.TensorType(dtype)
    graph = ir.Graph([x], square.outputs, nodes=[cast, square], opset_imports={"": 23}, name="g")
    return ir.Model(graph, ir_version=10)


@pytest.mark.parametrize(
    ("dtype", "torch_dtype"), [(ir.DataType.FLOAT16, torch.float16), (ir.DataType.BFLOAT16, torch.bfloat16)]
)
def test_results_have_the_type_of_the_graph(dtype: ir.DataType, torch_dtype: torch.dtype) -> None:
    x = np.array([1.001, 300.0], np.float32)
    result = TypedGraph(squared(dtype))({"x": x})["y"]
    low = torch.from_numpy(x).to(torch_dtype)
    assert result.dtype == torch_dtype and torch.equal(result, (low.float() * low.float()).to(torch_dtype))
    assert bool(result[1].isinf()) == (dtype == ir.DataType.FLOAT16)  # 90,000 is beyond float16
