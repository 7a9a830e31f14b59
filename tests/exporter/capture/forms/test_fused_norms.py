"""Norms that were fused with what stands before them give what ONNX Runtime makes of them, second outputs included."""

import numpy as np
import onnx_ir as ir
import pytest
from onnx import helper

from headway.errors import SourceError

from tests.support.tool_forms import as_read, check_one, one_node, refuse_one, run

RNG = np.random.default_rng(0)
X = RNG.standard_normal((2, 3, 8)).astype(np.float32)
V = {n: RNG.standard_normal(8).astype(np.float32) for n in ("gamma", "beta", "bias")}


def node(
    op_type: str, inputs: list[str], outputs: list[str] | None = None, domain: str = "com.microsoft", **settings: object
):
    return helper.make_node(op_type, inputs, outputs or ["y"], domain=domain, name="n", **settings)


@pytest.mark.parametrize("names", [["gamma"], ["gamma", "beta"], ["gamma", "beta", "bias"], ["gamma", "", "bias"]])
@pytest.mark.parametrize("summed", [True, False])
def test_a_norm_with_its_residual(names: list[str], summed: bool) -> None:
    outputs = ["sum", "", "", "y"] if summed else ["y"]
    made = node("SkipLayerNormalization", ["x", "s", *names], outputs, epsilon=1e-5)
    if not summed:
        check_one(made, {"x": X, "s": X[::-1].copy()}, {n: V[n] for n in names if n})
        return
    made.output[0], made.output[3] = "z", "y"
    model = one_node(made, {"x": X, "s": X}, {n: V[n] for n in names if n})
    model.graph.outputs[0] = next(o for n in model.graph for o in n.outputs if o.name == "y")
    model.graph.outputs[0].type = ir.TensorType(ir.DataType.FLOAT)
    reading = as_read(model)
    np.testing.assert_allclose(run(reading.model, {"x": X, "s": X}), run(model, {"x": X, "s": X}), atol=1e-6)


@pytest.mark.parametrize("opset", [17, 18])
@pytest.mark.parametrize("bias", [True, False])
def test_norms_without_a_mean(opset: int, bias: bool) -> None:
    names = ["gamma", "bias"] if bias else ["gamma"]
    made = node("SkipSimplifiedLayerNormalization", ["x", "s", *names], epsilon=1e-6)
    check_one(made, {"x": X, "s": X}, {n: V[n] for n in names}, opset=opset)
    made = node("SimplifiedLayerNormalization", ["x", "gamma"], domain="", axis=-1, epsilon=1e-6)
    check_one(made, {"x": X}, {"gamma": V["gamma"]}, opset=opset)


@pytest.mark.parametrize("positions", [True, False])
@pytest.mark.parametrize("kinds", [True, False])
def test_embeddings_with_their_norm(kinds: bool, positions: bool) -> None:
    ids = RNG.integers(0, 9, (2, 3)).astype(np.int32)
    inputs = {
        "i": ids,
        **({"k": ids % 2} if kinds else {}),
        **({"p": np.array([[2, 1, 0]] * 2, np.int32)} if positions else {}),
    }
    tables = {n: RNG.standard_normal((9, 8)).astype(np.float32) for n in ("words", "places", "types")}
    if not kinds:
        del tables["types"]
    names = [
        "i",
        "k" if kinds else "",
        "words",
        "places",
        "types" if kinds else "",
        "gamma",
        "beta",
        "",
        "p" if positions else "",
    ]
    made = node("EmbedLayerNormalization", names, ["y", "n"], epsilon=1e-5)
    check_one(made, inputs, {**tables, "gamma": V["gamma"], "beta": V["beta"]})


def test_what_is_not_read_is_refused_by_name() -> None:
    made = node("SkipLayerNormalization", ["x", "s", "gamma"], ["y", "mean"])
    model = one_node(made, {"x": X, "s": X}, {"gamma": V["gamma"]}, outputs=2)
    with pytest.raises(SourceError, match=r"'n' .SkipLayerNormalization.: its output 'mean' is read"):
        as_read(model)
    made = node("SimplifiedLayerNormalization", ["x", "gamma"], domain="", axis=1)
    refuse_one("a norm from axis 1 on", made, {"x": X}, {"gamma": V["gamma"]})
