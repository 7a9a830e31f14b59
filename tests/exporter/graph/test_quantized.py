"""The operators of quantization in the canonical graph."""

import numpy as np
import onnx_ir as ir
import onnxruntime
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from headway.exporter.graph.quantized import fixed_scale, tokens_function
from headway.exporter.graph.torch_graph import TorchGraph


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
