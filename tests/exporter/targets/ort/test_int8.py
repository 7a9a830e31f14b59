"""Matmuls with quantized weights as ONNX Runtime's own operators, against the graphs they are made from."""

from pathlib import Path

import numpy as np
import onnx_ir as ir
import onnxruntime
import pytest

from headway.errors import TargetError
from headway.exporter.graph.quantized import round_fixed
from headway.exporter.targets.ort.int8 import CONTRIB, lower_matmuls
from headway.processor import X64_PRECISION

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


def run(model: ir.Model, x: np.ndarray, *, exact: bool = False) -> np.ndarray:
    settings = onnxruntime.SessionOptions()
    settings.add_session_config_entry(X64_PRECISION, str(int(exact)))
    file = ir.to_proto(model).SerializeToString()
    session = onnxruntime.InferenceSession(file, settings, providers=["CPUExecutionProvider"])
    return session.run(None, {"x": x})[0]


def with_static_input(model: ir.Model, scale: float, zero: np.ndarray) -> None:
    """Quantize what the matmul of `one_matmul` reads."""
    graph = model.graph
    matmul = next(n for n in graph if n.op_type == "MatMul")
    matmul.replace_input_with(0, round_fixed(graph, matmul, graph.inputs[0], np.array(scale, np.float32), zero))
    graph.sort()


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


@pytest.mark.parametrize("zero", [np.array(0, np.int8), np.array(-9, np.int8), np.array(100, np.uint8)], ids=str)
@pytest.mark.parametrize(("unsigned", "exact"), [(False, True), (True, False), (True, True)])
def test_products_of_static_activations_are_exact_on_every_processor(
    zero: np.ndarray, unsigned: bool, exact: bool
) -> None:
    """Weights of the largest size saturate 16 bits where pairs of int8 products are added so; `exact` asks the runtime not to."""
    rng = np.random.default_rng(0)
    q = rng.choice([-128, -127, 126, 127], (64, 8)).astype(np.int8)
    scale = rng.uniform(0.001, 0.01, 8).astype(np.float32)
    x = rng.choice([-9.0, 0.3, 9.0], (5, 64)).astype(np.float32)
    model = one_matmul(q, scale, None, ir.DataType.INT8)
    with_static_input(model, 0.05, zero)
    assert lower_matmuls(model, kernels=False, unsigned=unsigned).static_int8 == 1
    limits = np.iinfo(zero.dtype)
    levels = np.clip(np.rint(x / np.float32(0.05)) + int(zero), limits.min, limits.max) - int(zero)
    wanted = (levels @ q.astype(np.float64)) * 0.05 * scale
    np.testing.assert_allclose(run(model, x, exact=exact), wanted, rtol=1e-5)
    assert (
        model.graph.initializers["q.unsigned" if unsigned else "q"].dtype
        == ir.DataType["UINT8" if unsigned else "INT8"]
    )


def test_integers_that_something_else_reads_stay_as_they_are() -> None:
    model = one_matmul(np.ones((32, 8), np.int8), np.ones(8, np.float32), None, ir.DataType.INT8)
    with_static_input(model, 0.1, np.array(0, np.int8))
    integers = next(n for n in model.graph if n.op_type == "QuantizeLinear").outputs[0]
    model.graph.outputs.append(integers)
    reader = ir.node("Identity", [integers], name="reader")
    reader.outputs[0].name = "copy"
    model.graph.append(reader)
    assert lower_matmuls(model, kernels=False).static_int8 == 1 and integers.dtype == ir.DataType.INT8


def test_activations_per_token_need_the_kernels(bert: Path) -> None:
    model, _ = rounded(canonical(bert))
    with pytest.raises(TargetError, match="quantized per token need Headway's kernels"):
        lower_matmuls(model.clone(), kernels=False)
    counts = lower_matmuls(model, kernels=True)
    assert counts.quantized_feed_forward == 4 and counts.quantized_linear == 4 * 4
    assert not model.functions
