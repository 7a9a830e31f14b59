"""Masks, attention, activations and decomposition on hand-made graphs, against numpy in float64."""

import math

import numpy as np
import onnx
import onnx_ir as ir
import onnxruntime
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from onnx import TensorProto, helper, numpy_helper

from headway.errors import SourceError
from headway.exporter.graph.activations import single_node_activations
from headway.exporter.graph.anatomy import read_anatomy
from headway.exporter.graph.canonical import canonicalize
from headway.exporter.graph.canonical_attention import canonicalize_attention
from headway.exporter.graph.decompose import decompose_attention
from headway.exporter.graph.mask import MaskKind, classify
from headway.exporter.graph.probe import Prober

HEADS, HEAD_DIM = 2, 4
WIDTH = HEADS * HEAD_DIM


def run(model: ir.Model, feeds: dict[str, np.ndarray]) -> list[np.ndarray]:
    session = onnxruntime.InferenceSession(ir.to_proto(model).SerializeToString(), providers=["CPUExecutionProvider"])
    return session.run(None, {i.name: feeds[i.name] for i in session.get_inputs()})


def load(
    nodes: list, weights: dict[str, np.ndarray], outputs: list[str], opset: int = 23, mask: bool = True
) -> ir.Model:
    """A model over input_ids and attention_mask, `[batch, sequence]`, with shapes inferred."""
    names = ["input_ids", "attention_mask"] if mask else ["input_ids"]
    graph = helper.make_graph(
        nodes,
        "hand-made",
        [helper.make_tensor_value_info(n, TensorProto.INT64, ["b", "s"]) for n in names],
        [helper.make_tensor_value_info(n, TensorProto.FLOAT, None) for n in outputs],
        [numpy_helper.from_array(np.asarray(v), k) for k, v in weights.items()],
    )
    model = helper.make_model(
        graph, opset_imports=[helper.make_opsetid("", opset), helper.make_opsetid("com.microsoft", 1)], ir_version=10
    )
    return ir.from_proto(onnx.shape_inference.infer_shapes(model))


def mask_model(kind: str) -> ir.Model:
    """A graph whose output is an attention mask of some kind, boolean or additive."""
    n = helper.make_node
    weights: dict[str, np.ndarray] = {
        "one": np.float32(1),
        "low": np.float32(-3e38),
        "axes": np.array([1, 2]),
        "zero": np.int64(0),
        "step": np.int64(1),
        "w": np.int64(2),
        "a0": np.array([0]),
        "a1": np.array([1]),
    }
    keys = [
        n("Cast", ["attention_mask"], ["f"], to=1),
        n("Sub", ["one", "f"], ["d"]),
        n("Mul", ["d", "low"], ["m"]),
        n("Unsqueeze", ["m", "axes"], ["additive"]),
    ]
    boolean = [n("Cast", ["attention_mask"], ["bm"], to=9), n("Unsqueeze", ["bm", "axes"], ["keep"])]
    steps = [
        n("Shape", ["input_ids"], ["sh"], start=1, end=2),
        n("Squeeze", ["sh"], ["len"]),
        n("Range", ["zero", "len", "step"], ["r"]),
        n("Unsqueeze", ["r", "a1"], ["q"]),
        n("Unsqueeze", ["r", "a0"], ["k"]),
    ]
    nodes = {
        "additive": [*keys, n("Identity", ["additive"], ["out"])],
        "boolean": [*boolean, n("Identity", ["keep"], ["out"])],
        "causal": [*boolean, *steps, n("GreaterOrEqual", ["q", "k"], ["c"]), n("And", ["keep", "c"], ["out"])],
        "window": [
            *boolean,
            *steps,
            n("Sub", ["q", "k"], ["off"]),
            n("Abs", ["off"], ["dist"]),
            n("LessOrEqual", ["dist", "w"], ["near"]),
            n("And", ["keep", "near"], ["out"]),
        ],
        "strange": [
            *boolean,
            *steps,
            n("Equal", ["q", "k"], ["e"]),
            n("Not", ["e"], ["ne"]),
            n("And", ["keep", "ne"], ["out"]),
        ],
    }[kind]
    return load(
        [*nodes, n("Gather", ["table", "input_ids"], ["embedded"])],
        {**weights, "table": np.zeros((50, 2), np.float32)},
        ["embedded"],
    )


@pytest.mark.parametrize(
    ("kind", "expected"),
    [
        ("additive", MaskKind(padding=True)),
        ("boolean", MaskKind(padding=True)),
        ("causal", MaskKind(padding=True, causal=True)),
        ("window", MaskKind(padding=True, window=2)),
    ],
)
def test_masks_are_recognized_by_what_they_compute(kind: str, expected: MaskKind) -> None:
    model = mask_model(kind)
    values = ir.convenience.create_value_mapping(model.graph)
    assert classify(Prober(model, 50), values["out"], values["attention_mask"], 64) == expected


def test_a_mask_of_no_known_kind_is_named() -> None:
    model = mask_model("strange")
    values = ir.convenience.create_value_mapping(model.graph)
    with pytest.raises(SourceError, match="out"):
        classify(Prober(model, 50), values["out"], values["attention_mask"], 64)


def decomposed(scale_form: str, mask_form: str, seed: int) -> ir.Model:
    """One attention, written out in one of the ways exporters do."""
    n, rng = helper.make_node, np.random.default_rng(seed)
    f32 = np.float32
    weights: dict[str, np.ndarray] = {
        "table": rng.normal(size=(50, WIDTH)).astype(f32),
        "split": np.array([0, 0, HEADS, HEAD_DIM]),
        "join": np.array([0, 0, WIDTH]),
        "one": f32(1),
        "low": f32(-1e9),
        "axes": np.array([1, 2]),
        "scale": f32(0.5),
        "inverse": f32(2),
        "root": f32(math.sqrt(0.5)),
        "zero": f32(0),
    }
    nodes = [n("Gather", ["table", "input_ids"], ["x"])]
    for name in "qkv":
        weights |= {
            f"{name}.weight": rng.normal(size=(WIDTH, WIDTH)).astype(f32),
            f"{name}.bias": rng.normal(size=WIDTH).astype(f32),
        }
        perm = [0, 2, 3, 1] if name == "k" else [0, 2, 1, 3]
        nodes += [
            n("MatMul", ["x", f"{name}.weight"], [f"{name}m"]),
            n("Add", [f"{name}m", f"{name}.bias"], [f"{name}3"]),
            n("Reshape", [f"{name}3", "split"], [f"{name}4"]),
            n("Transpose", [f"{name}4"], [f"{name}h"], perm=perm),
        ]
    if scale_form == "both":
        nodes += [n("Mul", ["qh", "root"], ["qs"]), n("Mul", ["kh", "root"], ["ks"]), n("MatMul", ["qs", "ks"], ["s0"])]
    else:
        nodes += [
            n("MatMul", ["qh", "kh"], ["raw"]),
            n("Mul", ["raw", "scale"], ["s0"]) if scale_form == "mul" else n("Div", ["raw", "inverse"], ["s0"]),
        ]
    if mask_form == "add":
        nodes += [
            n("Cast", ["attention_mask"], ["f"], to=1),
            n("Sub", ["one", "f"], ["d"]),
            n("Mul", ["d", "low"], ["m"]),
            n("Unsqueeze", ["m", "axes"], ["bias"]),
            n("Add", ["s0", "bias"], ["s1"]),
        ]
    else:
        nodes += [n("Cast", ["attention_mask"], ["bm"], to=9), n("Unsqueeze", ["bm", "axes"], ["keep"])]
        nodes += (
            [n("Where", ["keep", "s0", "low"], ["s1"])]
            if mask_form == "keep"
            else [n("Not", ["keep"], ["drop"]), n("Where", ["drop", "low", "s0"], ["s1"])]
        )
    nodes += [
        n("Softmax", ["s1"], ["p0"], axis=-1),
        n("IsNaN", ["p0"], ["nan"]),
        n("Where", ["nan", "zero", "p0"], ["p"]),
        n("MatMul", ["p", "vh"], ["o4"]),
        n("Transpose", ["o4"], ["ot"], perm=[0, 2, 1, 3]),
        n("Reshape", ["ot", "join"], ["out"]),
    ]
    return load(nodes, weights, ["out"])


def reference(model: ir.Model, ids: np.ndarray, mask: np.ndarray) -> np.ndarray:
    """The same attention in float64, from its definition: softmax(Q K^T / 2 + mask) V."""
    w = {k: v.const_value.numpy().astype(np.float64) for k, v in model.graph.initializers.items()}  # type: ignore[union-attr]
    x = w["table"][ids]
    q, k, v = (
        (x @ w[f"{p}.weight"] + w[f"{p}.bias"]).reshape(*ids.shape, HEADS, HEAD_DIM).transpose(0, 2, 1, 3)
        for p in "qkv"
    )
    scores = 0.5 * q @ k.swapaxes(-1, -2) + np.where(mask, 0, -np.inf)[:, None, None, :]
    p = np.exp(scores - scores.max(-1, keepdims=True))
    return ((p / p.sum(-1, keepdims=True)) @ v).transpose(0, 2, 1, 3).reshape(*ids.shape, WIDTH)


@pytest.mark.parametrize("scale_form", ["mul", "div", "both"])
@pytest.mark.parametrize("mask_form", ["add", "keep", "drop"])
def test_every_spelling_becomes_one_attention(scale_form: str, mask_form: str) -> None:
    model = decomposed(scale_form, mask_form, seed=1)
    ids = np.random.default_rng(0).integers(0, 50, (3, 9))
    mask = np.ones_like(ids)
    mask[1, 6:] = 0
    mask[2, :2] = 0
    expected = reference(model, ids, mask)
    values = ir.convenience.create_value_mapping(model.graph)
    canonicalize_attention(model, Prober(model, 50), values["attention_mask"], values["input_ids"], 64)
    model.graph.sort()
    (node,) = [n for n in model.graph if n.op_type == "Attention"]
    assert node.attributes["scale"].value == pytest.approx(0.5, rel=1e-6)
    np.testing.assert_allclose(run(model, {"input_ids": ids, "attention_mask": mask})[0], expected, atol=2e-5)


@settings(max_examples=15, deadline=None)
@given(batch=st.integers(1, 4), length=st.integers(1, 20), seed=st.integers(0, 1000))
def test_decomposition_is_the_inverse(batch: int, length: int, seed: int) -> None:
    model = decomposed("mul", "add", seed)
    rng = np.random.default_rng(seed)
    ids, mask = rng.integers(0, 50, (batch, length)), rng.integers(0, 2, (batch, length))
    mask[:, 0] = 1
    expected = reference(model, ids, mask)
    values = ir.convenience.create_value_mapping(model.graph)
    canonicalize_attention(model, Prober(model, 50), values["attention_mask"], values["input_ids"], 64)
    assert decompose_attention(model) == 1
    model.graph.sort()
    np.testing.assert_allclose(run(model, {"input_ids": ids, "attention_mask": mask})[0], expected, atol=3e-5)


def test_attention_of_no_known_form_is_named() -> None:
    model = decomposed("mul", "add", 0)
    scores = next(n for n in model.graph if n.op_type == "Softmax").inputs[0]
    assert scores is not None
    squared = ir.node("Mul", [scores, scores])
    squared.outputs[0].shape, squared.outputs[0].type = scores.shape, scores.type
    model.graph.append(squared)
    softmax = next(n for n in model.graph if n.op_type == "Softmax")
    softmax.replace_input_with(0, squared.outputs[0])
    softmax.name = "the_softmax"
    model.graph.sort()
    values = ir.convenience.create_value_mapping(model.graph)
    with pytest.raises(SourceError, match="the_softmax"):
        canonicalize_attention(model, Prober(model, 50), values["attention_mask"], values["input_ids"], 64)


def gelu_model(form: int, tanh: bool) -> ir.Model:
    n, f32 = helper.make_node, np.float32
    weights: dict[str, np.ndarray] = {
        "table": np.linspace(-6, 6, 100, dtype=f32).reshape(50, 2),
        "half": f32(0.5),
        "one": f32(1),
        "root": f32(math.sqrt(2)),
        "inverse": f32(1 / math.sqrt(2)),
        "three": f32(3),
        "c": f32(0.044715),
        "pi": f32(math.sqrt(2 / math.pi)),
    }
    nodes = [n("Gather", ["table", "input_ids"], ["x"])]
    if tanh:
        nodes += [
            n("Pow", ["x", "three"], ["x3"]),
            n("Mul", ["c", "x3"], ["cx"]),
            n("Add", ["x", "cx"], ["in"]),
            n("Mul", ["in", "pi"], ["arg"]),
            n("Tanh", ["arg"], ["t"]),
        ]
    else:
        nodes += [
            n("Div", ["x", "root"], ["arg"]) if form % 2 else n("Mul", ["inverse", "x"], ["arg"]),
            n("Erf", ["arg"], ["t"]),
        ]
    nodes += [n("Add", ["one", "t"], ["u"])]
    nodes += [
        [n("Mul", ["x", "u"], ["xu"]), n("Mul", ["xu", "half"], ["out"])],
        [n("Mul", ["u", "half"], ["hu"]), n("Mul", ["x", "hu"], ["out"])],
        [n("Mul", ["half", "x"], ["hx"]), n("Mul", ["hx", "u"], ["out"])],
    ][form]
    return load(nodes, weights, ["out"], mask=False)


@pytest.mark.parametrize("form", range(3))
@pytest.mark.parametrize("tanh", [False, True])
def test_gelu_spellings(form: int, tanh: bool) -> None:
    model = gelu_model(form, tanh)
    ids = np.arange(50).reshape(2, 25)
    expected = run(model, {"input_ids": ids})[0]
    single_node_activations(model)
    assert [n.op_type for n in model.graph] == ["Gather", "Gelu"]
    assert model.graph[1].attributes["approximate"].value == ("tanh" if tanh else "none")
    np.testing.assert_allclose(run(model, {"input_ids": ids})[0], expected, atol=2e-6)


def test_an_erf_that_is_no_gelu_is_named() -> None:
    n = helper.make_node
    model = load(
        [n("Gather", ["table", "input_ids"], ["x"]), n("Erf", ["x"], ["out"], name="lonely")],
        {"table": np.ones((50, 2), np.float32)},
        ["out"],
        mask=False,
    )
    with pytest.raises(SourceError, match="lonely"):
        single_node_activations(model)


def test_runtime_specific_operators_are_refused() -> None:
    nodes = [
        helper.make_node("Gather", ["table", "input_ids"], ["x"]),
        helper.make_node("Gelu", ["x"], ["out"], name="contrib", domain="com.microsoft"),
    ]
    model = load(nodes, {"table": np.ones((50, 2), np.float32)}, ["out"], mask=False)
    with pytest.raises(SourceError, match="contrib"):
        canonicalize(model, longest=64)


def test_a_graph_without_feed_forwards_has_no_exact_anatomy() -> None:
    model = decomposed("mul", "add", 0)
    values = ir.convenience.create_value_mapping(model.graph)
    canonicalize_attention(model, Prober(model, 50), values["attention_mask"], values["input_ids"], 64)
    model.graph.sort()
    with pytest.raises(SourceError, match="output projection"):
        read_anatomy(model)
