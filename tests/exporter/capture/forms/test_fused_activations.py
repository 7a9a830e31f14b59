"""Fused biases, activation functions and matmuls give what ONNX Runtime makes of them."""

import numpy as np
import pytest
from onnx import helper

from tests.support.tool_forms import as_read, check_one, one_node, refuse_one, run

RNG = np.random.default_rng(0)
X = RNG.standard_normal((2, 3, 4, 8)).astype(np.float32)
W = {"w": RNG.standard_normal((8, 5)).astype(np.float32)}
B = {"b": RNG.standard_normal(8).astype(np.float32)}


def node(op_type: str, inputs: list[str], **settings: object):
    return helper.make_node(op_type, inputs, ["y"], domain="com.microsoft", name="n", **settings)


@pytest.mark.parametrize("op_type", ["Gelu", "FastGelu", "QuickGelu"])
def test_activations_alone(op_type: str) -> None:
    check_one(node(op_type, ["x"]), {"x": X}, {})


@pytest.mark.parametrize("op_type", ["BiasGelu", "FastGelu"])
def test_activations_behind_a_bias(op_type: str) -> None:
    check_one(node(op_type, ["x", "b"]), {"x": X}, B)


@pytest.mark.parametrize("settings", [{}, {"alpha": 0.25}, {"transA": 1}, {"transB": 1, "alpha": 2.0}])
def test_matmuls_with_a_factor_or_transposed(settings: dict) -> None:
    left = X.swapaxes(-1, -2).copy() if settings.get("transA") else X
    right = X if settings.get("transB") else X.swapaxes(-1, -2).copy()
    check_one(node("FusedMatMul", ["a", "b"], **settings), {"a": left, "b": right}, {}, tolerance=1e-4)


@pytest.mark.parametrize("function", ["Relu", "Tanh", "LeakyRelu"])
def test_gemms_with_an_activation(function: str) -> None:
    more = {"activation_alpha": 0.3} if function == "LeakyRelu" else {}
    made = node("FusedGemm", ["x", "w", "c"], activation=function, alpha=0.5, **more)
    check_one(made, {"x": X[0, 0]}, {**W, "c": np.ones(5, np.float32)})


def test_a_softmax_behind_a_bias() -> None:
    """ONNX Runtime has it for GPUs alone."""
    reading = as_read(one_node(node("BiasSoftmax", ["x", "z"], axis=3, is_inner_broadcast=0), {"x": X, "z": X}, {}))
    powers = np.exp(2 * X - (2 * X).max(-1, keepdims=True))
    wanted = powers / powers.sum(-1, keepdims=True)
    np.testing.assert_allclose(run(reading.model, {"x": X, "z": X}), wanted, atol=1e-6)


def test_what_is_not_read_is_refused_by_name() -> None:
    refuse_one("a softmax over several axes", node("BiasSoftmax", ["x", "z"], axis=1), {"x": X, "z": X}, {})
    refuse_one("transposes batch axes", node("FusedMatMul", ["x", "w"], transBatchA=1), {"x": X}, W)
    refuse_one("its activation 'Sin'", node("FusedGemm", ["x", "w"], activation="Sin"), {"x": X}, W)
