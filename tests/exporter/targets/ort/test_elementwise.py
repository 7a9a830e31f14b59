"""Norms and activation functions on Headway's kernels: the outputs of the operators they replace, and only where they fit."""

from typing import Any

import numpy as np
import onnx_ir as ir
import onnxruntime
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from onnx import TensorProto, helper, numpy_helper

from headway.exporter.graph.edit import nodes, remove_unused
from headway.exporter.targets.ort import target as ort
from headway.exporter.targets.ort.elementwise import Elementwise, lower_elementwise
from headway.exporter.targets.ort.int8 import CONTRIB
from headway.kernels.cpu import library_path

WIDTH = 24
node = helper.make_node
needs_kernels = pytest.mark.skipif(library_path() is None, reason="no C++ compiler: kernels not built")


def model_of(nodes: list[Any], outputs: list[str], weights: dict[str, np.ndarray], **shapes: list[Any]) -> ir.Model:
    """Return a graph of these nodes on inputs `x` and `r`, `[tokens, WIDTH]` where not given otherwise."""
    shapes = {"x": ["tokens", WIDTH], "r": ["tokens", WIDTH]} | shapes
    inputs = [helper.make_tensor_value_info(n, TensorProto.FLOAT, s) for n, s in shapes.items()]
    values = sorted({o for n in nodes for o in n.output} - set(outputs))
    infos = [helper.make_tensor_value_info(n, TensorProto.FLOAT, shapes["x"]) for n in values]
    graph = helper.make_graph(
        nodes,
        "g",
        inputs,
        [helper.make_tensor_value_info(n, TensorProto.FLOAT, shapes["x"]) for n in outputs],
        [numpy_helper.from_array(v, n) for n, v in weights.items()],
        value_info=infos,
    )
    return ir.from_proto(helper.make_model(graph, opset_imports=[helper.make_opsetid("", 21)], ir_version=10))


def run(model: ir.Model, feeds: dict[str, np.ndarray]) -> list[np.ndarray]:
    options = onnxruntime.SessionOptions()
    if library_path() is not None:
        options.register_custom_ops_library(str(library_path()))
    content = ir.to_proto(model).SerializeToString()
    session = onnxruntime.InferenceSession(content, options, providers=["CPUExecutionProvider"])
    return session.run(None, {i.name: feeds[i.name] for i in session.get_inputs()})


def weights(rng: np.random.Generator) -> dict[str, np.ndarray]:
    return {n: rng.standard_normal(WIDTH).astype(np.float32) for n in ("gamma", "beta", "bias")}


def norm(of: str, *, epsilon: float = 1e-12, axis: int = -1) -> Any:
    return node("LayerNormalization", [of, "gamma", "beta"], ["y"], axis=axis, epsilon=epsilon)


@needs_kernels
@settings(max_examples=30, deadline=None)
@given(st.data())
def test_norms_give_the_same_outputs(data: st.DataObject) -> None:
    """Any sum of a value, a residual and a bias, in any order, read by others as well or not."""
    rng = np.random.default_rng(data.draw(st.integers(0, 999)))
    with_bias, with_skip, also_read = (data.draw(st.booleans()) for _ in range(3))
    pairs = [node("Neg", ["x"], ["h"])]
    total = "h"
    terms = data.draw(st.permutations(["bias"] * with_bias + ["r"] * with_skip))
    for term in terms:
        sides = data.draw(st.permutations([total, term]))
        total = f"{total}+{term}"
        pairs.append(node("Add", sides, [total]))
    pairs.append(norm(total))
    outputs = ["y"]
    if also_read:
        pairs.append(node("Abs", [total], ["z"]))
        outputs.append("z")
    model = model_of(pairs, outputs, weights(rng))
    feeds = {n: rng.standard_normal((7, WIDTH)).astype(np.float32) for n in "xr"}
    wanted = run(model, feeds)
    assert lower_elementwise(model) == Elementwise(norms=1)
    model.graph.sort()
    (fused,) = nodes(model.graph, "SkipLayerNormalization")
    given = [i for i, v in enumerate(fused.inputs) if v is not None]
    assert (1 in given) == with_skip
    assert (4 in given) == with_bias
    assert len(fused.outputs) == 1 + (also_read and bool(terms))
    for results, right in zip(run(model, feeds), wanted, strict=True):
        np.testing.assert_allclose(results, right, rtol=0, atol=2e-5)


@needs_kernels
@pytest.mark.parametrize("op", ["Gelu", "GeluTanh", "Relu", "Tanh"])
@pytest.mark.parametrize("biased", [True, False])
def test_activations_give_the_same_outputs(op: str, biased: bool) -> None:
    rng = np.random.default_rng(0)
    first = node("Add", ["bias", "x"], ["h"]) if biased else node("Neg", ["x"], ["h"])
    settings = {"approximate": "tanh"} if op == "GeluTanh" else {}
    model = model_of([first, node("Gelu" if op == "GeluTanh" else op, ["h"], ["y"], **settings)], ["y"], weights(rng))
    feeds = {"x": rng.standard_normal((7, WIDTH)).astype(np.float32) * 3}
    feeds["r"] = feeds["x"]
    (wanted,) = run(model, feeds)
    assert lower_elementwise(model) == Elementwise(activations=int(biased or op.startswith("Gelu")))
    model.graph.sort()
    np.testing.assert_allclose(run(model, feeds)[0], wanted, rtol=0, atol=2e-6)


@pytest.mark.parametrize("biased", [True, False])
def test_the_runtimes_own_tanh_gelu_takes_the_bias(biased: bool) -> None:
    rng = np.random.default_rng(0)
    first = node("Add", ["x", "bias"], ["h"]) if biased else node("Neg", ["x"], ["h"])
    model = model_of([first, node("Gelu", ["h"], ["y"], approximate="tanh")], ["y"], weights(rng))
    feeds = {n: rng.standard_normal((7, WIDTH)).astype(np.float32) for n in "xr"}
    (wanted,) = run(model, feeds)
    model.graph.opset_imports[CONTRIB] = 1
    ort._gelu(nodes(model.graph, "Gelu")[0])
    remove_unused(model)
    assert [n.op_type for n in model.graph] == ["FastGelu"] if biased else ["Neg", "FastGelu"]
    np.testing.assert_allclose(run(model, feeds)[0], wanted, rtol=0, atol=1e-5)


def test_what_does_not_fit_stays() -> None:
    """A residual that is broadcast, a bias of one number, sums that others read too, a weight of another rank, another axis."""
    rng = np.random.default_rng(0)
    plain = weights(rng) | {"one": np.ones(1, np.float32)}
    model = model_of([node("Add", ["x", "r"], ["s"]), norm("s")], ["y"], plain, r=[1, WIDTH])
    assert lower_elementwise(model) == Elementwise(norms=1)
    assert nodes(model.graph, "SkipLayerNormalization")[0].inputs[1] is None
    model = model_of([node("Add", ["x", "one"], ["s"]), norm("s")], ["y"], plain)
    lower_elementwise(model)
    assert len(nodes(model.graph, "SkipLayerNormalization")[0].inputs) == 4
    shared = [node("Add", ["x", "bias"], ["h"]), node("Gelu", ["h"], ["y"]), node("Abs", ["h"], ["z"])]
    model = model_of(shared, ["y", "z"], plain)
    lower_elementwise(model)
    assert len(nodes(model.graph, "BiasActivation")[0].inputs) == 1
    model = model_of([norm("x")], ["y"], plain | {"gamma": np.ones((1, WIDTH), np.float32)})
    assert lower_elementwise(model) == Elementwise()
    model = model_of([norm("x", axis=0)], ["y"], plain)
    assert lower_elementwise(model) == Elementwise()
