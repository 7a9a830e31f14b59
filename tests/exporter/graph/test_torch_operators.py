"""Operators in torch against ONNX Runtime, each by itself."""

from typing import Any

import numpy as np
import onnx_ir as ir
import onnxruntime
import pytest
import torch

from headway.errors import SourceError
from headway.exporter.graph.torch_graph import TorchGraph
from headway.exporter.graph.torch_operators import OPERATORS

X = np.random.default_rng(0).standard_normal((2, 3, 4)).astype(np.float32)
SQUARE = np.random.default_rng(1).standard_normal((4, 4)).astype(np.float32)


def i64(*numbers: int) -> np.ndarray:
    return np.array(numbers, np.int64)


CASES: list[tuple[str, list[np.ndarray | None], dict[str, Any], int]] = [
    ("ArgMax", [np.array([[1, 3, 3], [2, 2, 0]], np.float32)], {"axis": 1, "select_last_index": 1}, 1),
    ("ArgMax", [X], {"axis": 1, "keepdims": 0}, 1),
    ("Cast", [X], {"to": int(ir.DataType.INT64)}, 1),
    ("Clip", [X, np.float32(-0.5), np.float32(0.5)], {}, 1),
    ("Clip", [X, None, np.float32(0.1)], {}, 1),
    ("Concat", [X, X], {"axis": -1}, 1),
    ("CumSum", [X, np.array(1, np.int64)], {}, 1),
    ("Div", [i64(-7, 7), i64(2, 2)], {}, 1),
    ("Expand", [X[:, :1], i64(1, 5, 4)], {}, 1),
    ("Gather", [SQUARE, i64(-1, 0)], {}, 1),
    ("Gather", [X, np.array([[0, -1]], np.int64)], {"axis": 2}, 1),
    ("GatherElements", [X, np.array([[[0], [-1], [2]]] * 2, np.int64)], {"axis": 2}, 1),
    ("GatherND", [X, np.array([[[1, 0]], [[2, 3]]], np.int64)], {"batch_dims": 1}, 1),
    ("GatherND", [X, np.array([[1, 0], [0, 2]], np.int64)], {}, 1),
    ("Gelu", [X], {"approximate": "tanh"}, 1),
    ("Gemm", [SQUARE, SQUARE, SQUARE[0]], {"transA": 1, "transB": 1, "alpha": 0.5, "beta": 2.0}, 1),
    ("LayerNormalization", [X, np.ones(4, np.float32), np.zeros(4, np.float32)], {"epsilon": 0.1}, 1),
    ("Max", [X, np.float32(0)], {}, 1),
    ("Pad", [X, i64(0, 1, 0, 0, 0, 2), np.float32(3)], {}, 1),
    ("Pad", [X, i64(1, 0), np.float32(3), i64(-1)], {}, 1),
    ("QuantizeLinear", [X, np.float32(0.01), np.int8(3)], {}, 1),
    ("ReduceL2", [X, i64(1)], {"keepdims": 0}, 1),
    ("ReduceMean", [X], {}, 1),
    ("ReduceMin", [X, i64(0, 2)], {}, 1),
    ("Reshape", [X, i64(0, -1)], {}, 1),
    ("Shape", [X], {"start": 1, "end": -1}, 1),
    ("Slice", [X, i64(-1), i64(-4), i64(1), i64(-1)], {}, 1),
    ("Slice", [X, i64(1, 0), i64(9, 3), i64(2, 1)], {}, 1),
    ("Split", [X, i64(1, 3)], {"axis": 2}, 2),
    ("Split", [X], {"axis": 2, "num_outputs": 2}, 2),
    ("Squeeze", [X[:1], i64(0)], {}, 1),
    ("Tile", [X, i64(1, 2, 1)], {}, 1),
    ("Transpose", [X], {}, 1),
    ("Transpose", [X], {"perm": [0, 2, 1]}, 1),
    ("Unsqueeze", [X, i64(-1, 0)], {}, 1),
    # Without what is optional: the defaults of the standard.
    ("ArgMax", [X], {}, 1),
    ("Clip", [X, np.float32(-0.5)], {}, 1),
    ("Concat", [X, X], {"axis": 0}, 1),
    ("DequantizeLinear", [np.array([-3, 5], np.int8), np.float32(0.5)], {}, 1),
    ("Gelu", [X], {}, 1),
    ("Gemm", [SQUARE, SQUARE], {}, 1),
    ("Gemm", [SQUARE, SQUARE, SQUARE], {}, 1),
    ("LayerNormalization", [X, np.ones(4, np.float32)], {}, 1),
    ("LayerNormalization", [X, np.ones((3, 4), np.float32), np.ones((3, 4), np.float32)], {"axis": 1}, 1),
    ("Max", [X, np.float32(0), X[:1] + 1], {}, 1),
    ("Min", [X, np.float32(0), X[:1] - 1], {}, 1),
    ("Pad", [X, i64(0, 1, 0, 0, 0, 2)], {}, 1),
    ("QuantizeLinear", [X, np.array([0.01, 0.02, 0.03], np.float32), np.array([1, 2, 3], np.int8)], {}, 1),
    ("QuantizeLinear", [X, np.array([0.01, 0.02], np.float32), np.array([1, 2], np.int8)], {"axis": 0}, 1),
    ("ReduceMax", [X, i64(-1)], {"keepdims": 1}, 1),
    ("ReduceSum", [X], {"keepdims": 0}, 1),
    ("Shape", [X], {}, 1),
    ("Slice", [X, i64(1, 1), i64(2, 3)], {}, 1),
    ("Softmax", [X], {}, 1),
    ("Softmax", [X], {"axis": 1}, 1),
    ("Split", [np.concatenate([X, X])], {"num_outputs": 2}, 2),
    ("Squeeze", [X[:1, :1]], {}, 1),
]
CASES += [(kind, [X], {}, 1) for kind in ("Abs", "Ceil", "Cos", "Exp", "Neg", "Relu", "Sigmoid", "Sign", "Sin", "Tanh")]
CASES += [(kind, [np.abs(X) + 1], {}, 1) for kind in ("Log", "Sqrt", "Identity")]
CASES += [(kind, [X, SQUARE[0]], {}, 1) for kind in ("Add", "Sub", "Mul")]
CASES += [("Div", [X, SQUARE[0]], {}, 1), ("Pow", [np.abs(X), SQUARE[0]], {}, 1), ("MatMul", [X, SQUARE], {}, 1)]
COMPARED = [("Equal", X), ("Greater", X), ("GreaterOrEqual", X), ("Less", X), ("LessOrEqual", X)]
CASES += [(kind, [x, np.where(x > 0, x, np.float32(0.2))], {}, 1) for kind, x in COMPARED]
CASES += [(kind, [X > 0, SQUARE[0] > 0], {}, 1) for kind in ("And", "Or")] + [("Not", [X > 0], {}, 1)]
CASES += [("Where", [X > 0, X, SQUARE[0]], {}, 1)]
TRUTHS = dict.fromkeys(("And", "Or", "Not", *(kind for kind, _ in COMPARED)), 9)


def one_node(operator: str, inputs: list[np.ndarray | None], attributes: dict[str, Any], outputs: int) -> ir.Model:
    """Return a model of one node, whose first input is fed and whose other inputs are constants."""
    x = inputs[0]
    assert x is not None
    first = ir.Value(name="x", shape=ir.Shape(x.shape), type=ir.TensorType(ir.DataType.from_numpy(x.dtype)))
    others = [
        None
        if a is None
        else ir.Value(
            name=f"c{i}",
            shape=ir.Shape(a.shape),
            type=ir.TensorType(ir.DataType.from_numpy(a.dtype)),
            const_value=ir.Tensor(np.asarray(a), name=f"c{i}"),
        )
        for i, a in enumerate(inputs[1:])
    ]
    node = ir.node(operator, [first, *others], attributes=attributes, num_outputs=outputs, name="node")
    for i, out in enumerate(node.outputs):
        out.name = f"y{i}"
    constants = [v for v in others if v is not None]
    graph = ir.Graph([first], node.outputs, nodes=[node], initializers=constants, opset_imports={"": 23}, name="g")
    return ir.Model(graph, ir_version=10)


def in_torch(model: ir.Model, x: np.ndarray) -> list[np.ndarray]:
    with torch.no_grad():
        return [t.numpy() for t in TorchGraph(model)({"x": x}).values()]


@pytest.mark.parametrize(("operator", "inputs", "attributes", "outputs"), CASES)
def test_an_operator_computes_what_onnxruntime_computes(
    operator: str, inputs: list[np.ndarray | None], attributes: dict[str, Any], outputs: int
) -> None:
    model = one_node(operator, inputs, attributes, outputs)
    proto = ir.to_proto(model)
    x = inputs[0]
    assert x is not None
    dtypes = {"ArgMax": 7, "Shape": 7, "Cast": 7, "QuantizeLinear": 3, "Div": 7 if x.dtype == np.int64 else 1, **TRUTHS}
    for out in proto.graph.output:
        out.type.tensor_type.elem_type = dtypes.get(operator, 1)
    session = onnxruntime.InferenceSession(proto.SerializeToString(), providers=["CPUExecutionProvider"])
    for wanted, got in zip(session.run(None, {"x": x}), in_torch(model, x), strict=True):
        assert wanted.dtype == got.dtype
        np.testing.assert_allclose(got, wanted, rtol=1e-5, atol=1e-6)


@pytest.mark.parametrize(
    ("operator", "inputs", "attributes", "says"),
    [
        ("CumSum", [X, np.array(1, np.int64)], {"reverse": 1}, "'node': exclusive or reverse CumSum"),
        ("Pad", [X, i64(0, 1, 0, 0, 0, 2)], {"mode": "edge"}, "'node': only constant padding"),
    ],
)
def test_a_form_without_a_counterpart_is_named(
    operator: str, inputs: list[np.ndarray | None], attributes: dict[str, Any], says: str
) -> None:
    with pytest.raises(SourceError, match=says):
        in_torch(one_node(operator, inputs, attributes, 1), X)


def test_rounding_per_token_does_not_look_at_other_tokens() -> None:
    x = torch.from_numpy(X)
    node = ir.node("QuantizeTokens", [], domain="headway")
    together, alone = OPERATORS["QuantizeTokens"](node, [x]), OPERATORS["QuantizeTokens"](node, [x[:1, :1]])
    assert isinstance(together, torch.Tensor) and isinstance(alone, torch.Tensor)
    assert torch.equal(together[:1, :1], alone)
    step = (x.amax(-1).clamp(min=0) - x.amin(-1).clamp(max=0)) / 255
    assert ((together - x).abs() <= 0.51 * step[..., None]).all()
