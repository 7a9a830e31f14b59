"""Matmuls with quantized weights as ONNX Runtime's own operators, against the graphs they are made from."""

from pathlib import Path

import numpy as np
import onnx_ir as ir
import onnxruntime
import pytest

from headway.errors import TargetError
from headway.exporter.targets.ort.int8 import CONTRIB, lower_matmuls

from tests.support.quantized import quantize
from tests.support.variants import canonical, feeds, rounded


def one_matmul(q: np.ndarray, scale: np.ndarray, block: int | None, dtype: ir.DataType) -> ir.Model:
    """Return a matmul of float activations with weights behind a DequantizeLinear, and a bias after it."""
    rows, columns = q.shape
    x = ir.Value(name="x", shape=ir.Shape(["n", rows]), type=ir.TensorType(ir.DataType.FLOAT))
    tensor = ir.Tensor(q, dtype=dtype, name="q") if dtype == ir.DataType.INT8 else ir.PackedTensor(
        _packed(q), dtype, shape=ir.Shape(q.shape), name="q"
    )  # fmt: skip
    weights = [
        ir.Value(name="q", shape=ir.Shape(q.shape), type=ir.TensorType(dtype), const_value=tensor),
        ir.Value(
            name="scale",
            shape=ir.Shape(scale.shape),
            type=ir.TensorType(ir.DataType.FLOAT),
            const_value=ir.tensor(scale, name="scale"),
        ),
    ]
    settings = {"axis": 0, "block_size": block} if block else {"axis": 1}
    back = ir.node("DequantizeLinear", weights, attributes=settings, name="back")
    back.outputs[0].name, back.outputs[0].type = "w", ir.TensorType(ir.DataType.FLOAT)
    back.outputs[0].shape = ir.Shape(q.shape)
    node = ir.node("MatMul", [x, back.outputs[0]], name="matmul")
    node.outputs[0].name, node.outputs[0].type = "y", ir.TensorType(ir.DataType.FLOAT)
    node.outputs[0].shape = ir.Shape(["n", columns])
    graph = ir.Graph([x], [node.outputs[0]], nodes=[back, node], initializers=weights, opset_imports={"": 21})
    graph.opset_imports[CONTRIB] = 1
    return ir.Model(graph, ir_version=10)


def _packed(q: np.ndarray) -> np.ndarray:
    """Two int4 numbers to a byte, low nibble first."""
    nibbles = (q.astype(np.int16) & 15).astype(np.uint8).reshape(-1)
    return nibbles[0::2] | (nibbles[1::2] << 4)


def run(model: ir.Model, x: np.ndarray) -> np.ndarray:
    session = onnxruntime.InferenceSession(ir.to_proto(model).SerializeToString(), providers=["CPUExecutionProvider"])
    return session.run(None, {"x": x})[0]


@pytest.mark.parametrize("block", [16, 32])
def test_int4_weights_are_packed_for_the_runtime(block: int) -> None:
    rng = np.random.default_rng(0)
    q, scale = rng.integers(-8, 8, (64, 24)), rng.uniform(0.01, 0.1, (64 // block, 24)).astype(np.float32)
    model = one_matmul(q, scale, block, ir.DataType.INT4)
    counts = lower_matmuls(model, kernels=False)
    assert counts.int4 == 1 and [n.op_type for n in model.graph] == ["MatMulNBits"]
    x = rng.normal(size=(5, 64)).astype(np.float32)
    np.testing.assert_allclose(run(model, x), x @ (q * np.repeat(scale, block, axis=0)), atol=1e-4)


def test_without_nibbles_int4_stays_behind_dequantization() -> None:
    model = one_matmul(np.ones((32, 8), int), np.ones((1, 8), np.float32), 32, ir.DataType.INT4)
    counts = lower_matmuls(model, kernels=False, nibbles=False)
    assert (counts.int4, counts.weight_only) == (0, 1)
    assert [n.op_type for n in model.graph] == ["DequantizeLinear", "MatMul"]


def test_blocks_that_the_operator_does_not_take_stay(tmp_path: Path) -> None:
    model = one_matmul(np.ones((24, 8), int), np.ones((1, 8), np.float32), 24, ir.DataType.INT4)
    assert lower_matmuls(model, kernels=False).weight_only == 1


def test_static_activations_become_the_runtimes_operator(bert: Path) -> None:
    model = canonical(bert)
    quantize(model, feeds(), attention=False)
    counts = lower_matmuls(model, kernels=False)
    assert counts.static_int8 == 4 * 6 and counts.weight_only == 0
    assert sum(n.op_type == "MatMulIntegerToFloat" and n.domain == CONTRIB for n in model.graph) == 4 * 6


def test_activations_per_token_need_the_kernels(bert: Path) -> None:
    model, _ = rounded(canonical(bert))
    with pytest.raises(TargetError, match="quantized per token need Headway's kernels"):
        lower_matmuls(model.clone(), kernels=False)
    counts = lower_matmuls(model, kernels=True)
    assert counts.quantized_feed_forward == 4 and counts.quantized_linear == 4 * 4
    assert not model.functions
