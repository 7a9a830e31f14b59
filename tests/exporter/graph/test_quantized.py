"""Integers in the canonical graph: how they are held, and how they are found again."""

import numpy as np
import onnx_ir as ir
import onnxruntime
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from headway.calibration.rounding import nearest
from headway.exporter.graph.edit import consumers, initializer, nodes
from headway.exporter.graph.quantized import (
    fixed_scale,
    is_quantized,
    quantize_embedding,
    quantize_weight,
    quantized_weight_of,
    readers_through,
    round_fixed,
    tokens_function,
    unrounded,
)
from headway.exporter.graph.torch_graph import TorchGraph

WEIGHT = "bert.encoder.layer.0.intermediate.dense.weight"


@pytest.mark.parametrize(("bits", "block"), [(8, None), (4, 8)])
def test_a_quantized_weight_is_found_at_its_matmul(bert_model: ir.Model, bits: int, block: int | None) -> None:
    model = bert_model.clone()
    weight = model.graph.initializers[WEIGHT]
    (matmul,) = consumers(weight)
    assert not is_quantized(model) and quantized_weight_of(matmul) is None
    array = weight.const_value
    assert array is not None
    quantize_weight(model.graph, weight, nearest(array.numpy(), bits=bits, block=block))
    held = quantized_weight_of(matmul)
    assert is_quantized(model) and held is not None and held[0] is weight
    assert weight.dtype == (ir.DataType.INT8 if bits == 8 else ir.DataType.INT4)
    assert held[1].name == f"{WEIGHT}_scale"
    assert quantized_weight_of(nodes(model.graph, "Attention")[0]) is None


def test_a_rounded_activation_leads_back_to_itself(bert_model: ir.Model) -> None:
    model = bert_model.clone()
    (matmul,) = consumers(model.graph.initializers[WEIGHT])
    value = matmul.inputs[0]
    assert value is not None and unrounded(value) is value
    readers = consumers(value)
    rounded = round_fixed(model.graph, matmul, value, *fixed_scale(-1, 2, signed=False))
    matmul.replace_input_with(0, rounded)
    assert unrounded(rounded) is value
    assert set(readers_through(value)) == set(readers)


def test_a_range_of_zero_has_a_scale() -> None:
    for signed, dtype in ((True, np.int8), (False, np.uint8)):
        scale, zero = fixed_scale(0.0, 0.0, signed=signed)
        assert float(scale) == 1.0 and int(zero) == 0 and zero.dtype == dtype


@settings(max_examples=40, deadline=None)
@given(
    rows=st.integers(1, 6),
    features=st.integers(1, 40),
    seed=st.integers(0, 2**32 - 1),
    size=st.floats(-4, 4),
    shift=st.floats(-3, 3),
)
def test_rounding_by_token_is_the_same_in_torch_and_in_plain_onnx(
    rows: int, features: int, seed: int, size: float, shift: float
) -> None:
    x = (np.random.default_rng(seed).standard_normal((rows, features)) * 10**size + shift).astype(np.float32)
    x[0] = 0
    function = tokens_function()
    value = ir.Value(name="in", type=ir.TensorType(ir.DataType.FLOAT), shape=ir.Shape(["rows", features]))
    node = ir.node("QuantizeTokens", [value], domain="headway")
    node.outputs[0].name, node.outputs[0].type = "out", ir.TensorType(ir.DataType.FLOAT)
    graph = ir.Graph([value], node.outputs, nodes=[node], opset_imports={"": 23, "headway": 1}, name="g")
    made = ir.Model(graph, ir_version=10, functions=[function])
    session = onnxruntime.InferenceSession(ir.to_proto(made).SerializeToString(), providers=["CPUExecutionProvider"])
    plain = session.run(None, {"in": x})[0]
    step = (np.maximum(x.max(1), 0) - np.minimum(x.min(1), 0)) / 255
    assert (np.abs(plain - x) <= 0.5 * step[:, None] * (1 + 1e-4) + 1e-30).all()
    with torch.no_grad():
        ours = TorchGraph(made)({"in": x})["out"].numpy()
    assert (np.abs(ours - plain) <= step[:, None] * 1.001).all() and np.mean(ours == plain) > 0.9


@settings(max_examples=60, deadline=None)
@given(low=st.floats(-1e4, 1e4), high=st.floats(-1e4, 1e4), signed=st.booleans())
def test_ranges_hold_zero_and_their_ends(low: float, high: float, signed: bool) -> None:
    low, high = min(low, high), max(low, high)
    scale, zero = fixed_scale(low, high, signed=signed)
    limits = (-127, 127) if signed else (0, 255)
    ends = [(n - int(zero)) * float(scale) for n in limits]
    assert scale > 0 and zero.dtype == (np.int8 if signed else np.uint8)
    assert ends[0] <= min(low, 0) + 0.51 * scale and ends[1] >= max(high, 0) - 0.51 * scale
    assert not signed or zero == 0


@pytest.mark.parametrize("offset", [0, 9])
def test_rows_are_looked_up_with_their_scales(offset: int) -> None:
    q = np.arange(-6, 6, dtype=np.int8).reshape(4, 3)
    steps = np.array([[1], [2], [3], [4]], np.float32)
    graph = ir.Graph([], [], nodes=[], opset_imports={"": 23})
    ids = ir.Value(name="ids", shape=ir.Shape([2]), type=ir.TensorType(ir.DataType.INT64))
    graph.inputs.append(ids)
    table = initializer(graph, "table", (q.astype(np.float32) + offset) * steps)
    look = ir.node("Gather", [table, ids])
    end = ir.node("Identity", look.outputs)
    for node, name in ((look, "rows"), (end, "y")):
        node.outputs[0].name, node.outputs[0].type = name, ir.TensorType(ir.DataType.FLOAT)
        graph.append(node)
    graph.outputs.append(end.outputs[0])
    quantize_embedding(graph, table, q, steps, offset)
    session = onnxruntime.InferenceSession(ir.to_proto(ir.Model(graph, ir_version=10)).SerializeToString())
    (rows,) = session.run(None, {"ids": np.array([3, 1])})
    assert np.array_equal(rows, (q[[3, 1]].astype(np.float32) + offset) * steps[[3, 1]])
