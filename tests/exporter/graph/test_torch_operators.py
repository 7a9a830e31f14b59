"""Which operators the graph in torch has, against those that exporters write; rounding, and Headway's own operators."""

import re
from pathlib import Path

import numpy as np
import onnx_ir as ir
import onnxscript
import pytest
import torch
from onnx_ir.passes import common
from onnxscript import version_converter

from headway.errors import SourceError
from headway.exporter.graph.torch_graph import TorchGraph
from headway.exporter.graph.torch_operators import OPERATORS

from tests.support.one_node import (
    SQUARE,
    OneNode,
    X,
    check_values,
    i64,
    in_onnxruntime,
    model_of,
    one,
)

TF2ONNX = """
Abs Acos Acosh Add And ArgMax ArgMin Asin Asinh Atan Atanh AveragePool BatchNormalization BitShift BitwiseAnd BitwiseNot
BitwiseOr BitwiseXor Cast Ceil Clip Compress Concat ConcatFromSequence ConstantOfShape Conv ConvTranspose Cos Cosh CumSum
DepthToSpace DequantizeLinear Det Div Dropout DynamicQuantizeLinear Einsum Elu Equal Erf Exp Expand EyeLike Flatten Floor GRU
Gather GatherElements GatherND Gemm Greater GreaterOrEqual HardSwish Identity If InstanceNormalization IsInf IsNaN LRN LSTM
LeakyRelu Less LessOrEqual Log LogSoftmax Loop LpNormalization MatMul MatMulInteger Max MaxPool Mean Min Mod Mul Multinomial
Neg NonMaxSuppression NonZero Not OneHot Or PRelu Pad Pow QuantizeLinear RandomNormal RandomNormalLike RandomUniform
RandomUniformLike Range Reciprocal ReduceL1 ReduceL2 ReduceLogSum ReduceLogSumExp ReduceMax ReduceMean ReduceMin ReduceProd
ReduceSum ReduceSumSquare Relu Reshape Resize ReverseSequence RoiAlign Round Scan ScatterElements ScatterND Selu SequenceEmpty
SequenceInsert Shape Sigmoid Sign Sin Sinh Size Slice Softmax Softplus Softsign SpaceToDepth Split Sqrt Squeeze
StringNormalizer StringSplit Sub Sum Tan Tanh ThresholdedRelu Tile TopK Transpose Unique Unsqueeze Upsample Where Xor
"""
"""What tensorflow-onnx writes, and with it Keras from TensorFlow and JAX: the names in its handlers and rewriters, July 2026.

Keras from torch, and Optimum, write what torch.onnx writes.
"""

NOT_COVERED = {
    "images": """AffineGrid Col2Im ConvTranspose DepthToSpace Det GridSample LRN MaxRoiPool NonMaxSuppression Resize RoiAlign
        SpaceToDepth Upsample""",
    "sound": "BlackmanWindow DFT HammingWindow HannWindow STFT",
    "recurrent networks": "GRU RNN ReverseSequence",
    "control flow, and lists of tensors": """ConcatFromSequence If Loop OptionalGetElement OptionalHasElement Scan SequenceAt
        SequenceConstruct SequenceEmpty SequenceErase SequenceInsert SequenceLength SequenceMap SplitToSequence""",
    "chance": "Bernoulli Multinomial RandomNormal RandomNormalLike RandomUniform RandomUniformLike",
    "training": "NegativeLogLikelihoodLoss SoftmaxCrossEntropyLoss",
    "strings and sets": "StringNormalizer StringSplit Unique",
    "integers of a runtime's own, refused when a file is read": "DynamicQuantizeLinear MatMulInteger",
    "opsets below 14": "ConstantFill DynamicSlice Scatter",
    "constants, which become initializers": "Constant",
}
"""What the exporters write besides: nothing that an encoder's forward pass needs."""

REFUSED = sorted(name for names in NOT_COVERED.values() for name in names.split())


def written_by_torch() -> set[str]:
    """Return the operators in the sources of both exporters of the installed torch, and of onnxscript."""
    onnx_folder = Path(torch.onnx.__file__).parent / "_internal"
    library = Path(onnxscript.__file__).parent / "function_libs" / "torch_lib"
    calls = {
        onnx_folder / "torchscript_exporter": r"g\.op\(\s*\"([A-Z]\w+)\"",
        onnx_folder / "exporter" / "_torchlib": r"\bop\d*\.([A-Z]\w+)\(",
        library: r"\bop\d*\.([A-Z]\w+)\(",
    }
    return {
        name
        for folder, call in calls.items()
        for file in folder.rglob("*.py")
        for name in re.findall(call, file.read_text("utf-8"))
    }


def test_every_operator_that_exporters_write_is_covered_or_says_why_not() -> None:
    torch_writes = written_by_torch()
    assert {"ScatterND", "Softmax", "Trilu"} <= torch_writes  # the search finds something
    written = torch_writes | set(TF2ONNX.split())
    assert sorted(written - set(OPERATORS)) == sorted(written & set(REFUSED))
    assert not set(REFUSED) & set(OPERATORS)


@pytest.mark.parametrize("operator", REFUSED)
def test_what_is_not_covered_is_named(operator: str) -> None:
    says = rf"^node 'node' \({operator}, ai.onnx opset 23\): the operator has no counterpart in torch yet.*headway export\)$"
    with pytest.raises(SourceError, match=says):
        TorchGraph(model_of(one(operator, X)))


ROUNDED = np.array([[-3, 5], [7, 0]], np.int8)
CASES: list[OneNode] = [
    one("DequantizeLinear", ROUNDED, np.float32(0.5), constant=(1,)),
    one(
        "DequantizeLinear", ROUNDED, np.array([0.5, 0.1], np.float32), np.array([1, -1], np.int8), axis=0, constant=(1,)
    ),
    one("QuantizeLinear", X, np.float32(0.01), np.int8(3)),
    one("QuantizeLinear", X, np.float32(0.01)),
    one("QuantizeLinear", X, np.float32(0.01), output_dtype=int(ir.DataType.INT8)),
    one("QuantizeLinear", X, np.array([0.01, 0.02, 0.03], np.float32), np.array([1, 2, 3], np.int8)),
    one("QuantizeLinear", X, np.array([0.01, 0.02], np.float32), np.array([1, 2], np.int8), axis=0),
]


@pytest.mark.parametrize("case", CASES, ids=str)
def test_rounding(case: OneNode) -> None:
    check_values(case)


OLD: list[OneNode] = [
    one("BatchNormalization", X, SQUARE[0, :3], SQUARE[1, :3], SQUARE[2, :3], np.abs(SQUARE[3, :3]), opset=14),
    one("Clip", X, None, np.float32(0.5), opset=14),
    one("CumSum", X, np.array(1, np.int64), exclusive=1, opset=14),
    one("Dropout", X, opset=14),
    one("GroupNormalization", X[:, [0, 1]], SQUARE[0, :2], SQUARE[1, :2], num_groups=2, opset=18),
    one("Pad", X, i64(0, 1, 0, 0, 0, 2), mode="reflect", opset=14),
    one("ReduceL2", X, axes=[-1], opset=14),
    one("ReduceMax", X, axes=[1, -1], keepdims=0, opset=17),
    one("ReduceMean", X, axes=[-1], opset=14),
    one("ReduceSum", X, i64(-1), keepdims=0, opset=14),
    one("Reshape", X, i64(0, -1), opset=14),
    one("ScatterND", SQUARE, np.array([[1], [1]], np.int64), SQUARE[:2], reduction="add", opset=16),
    one("Softmax", X, axis=1, opset=14),
    one("Split", X, axis=-1, outputs=2, opset=14),
    one("Trilu", X, np.array(1, np.int64), upper=0, opset=14),
    one("Where", X > 0, X, SQUARE[0], opset=14),
]


@pytest.mark.parametrize("case", OLD, ids=str)
def test_an_operator_of_an_older_opset_computes_the_same_after_conversion(case: OneNode) -> None:
    model = model_of(case)
    wanted = in_onnxruntime(case, [np.dtype(np.float32)] * case.outputs)
    version_converter.convert_version(model, 23, fallback=True)
    common.LiftConstantsToInitializersPass(lift_all_constants=True, size_limit=0)(model)
    assert model.graph.opset_imports[""] == 23
    with torch.no_grad():
        results = TorchGraph(model)({"x": case.x})
    for array, result in zip(wanted, results.values(), strict=True):
        np.testing.assert_allclose(result.numpy(), array, rtol=1e-5, atol=2e-6)


def test_rounding_per_token_does_not_look_at_other_tokens() -> None:
    x = torch.from_numpy(X)
    node = ir.node("QuantizeTokens", [], domain="headway")
    together, alone = OPERATORS["QuantizeTokens"](node, [x]), OPERATORS["QuantizeTokens"](node, [x[:1, :1]])
    assert isinstance(together, torch.Tensor) and isinstance(alone, torch.Tensor)
    assert torch.equal(together[:1, :1], alone)
    step = (x.amax(-1).clamp(min=0) - x.amin(-1).clamp(max=0)) / 255
    assert ((together - x).abs() <= 0.51 * step[..., None]).all()


@pytest.mark.parametrize("bias", [None, np.array([[0.0, -np.inf, 1.0, 0.5]], np.float32)], ids=["alone", "bias"])
def test_our_own_softmax_takes_a_bias_or_none(bias: np.ndarray | None) -> None:
    x = np.random.default_rng(0).normal(size=(3, 4)).astype(np.float32)
    node = ir.node("MaskedSoftmax", [], domain="headway", attributes={"scale": 2.0})
    given = [torch.from_numpy(array) for array in (x, bias) if array is not None]
    result = OPERATORS["MaskedSoftmax"](node, given)
    scores = 2.0 * x.astype(np.float64) + (0.0 if bias is None else bias)
    wanted = np.exp(scores) / np.exp(scores).sum(axis=-1, keepdims=True)
    np.testing.assert_allclose(np.asarray(result), wanted, atol=1e-6)
