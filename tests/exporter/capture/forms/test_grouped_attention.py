"""Grouped queries without a cache: in plain operators, as ONNX Runtime computes them, and as an encoder is read."""

from pathlib import Path
from typing import Any

import numpy as np
import onnx_ir as ir
import pytest
from onnx import TensorProto, helper, numpy_helper

from headway.errors import SourceError
from headway.exporter.capture.forms.base import Reading
from headway.exporter.graph.canonical import canonicalize

from tests.support.tool_forms import anatomy_of, as_read, run

RNG = np.random.default_rng(0)
HEADS, KV, SIZE, WIDTH = 4, 2, 16, 64
IDS = RNG.integers(0, 30, (2, 5))
MASK = np.array([[1, 1, 1, 0, 0], [1, 1, 1, 1, 1]])
FEEDS = {"input_ids": IDS, "attention_mask": MASK}


def weights() -> dict[str, np.ndarray]:
    turns = np.outer(np.arange(16), 1 / 10 ** np.arange(SIZE // 2)).astype(np.float32)
    shapes = {"table": (30, WIDTH), "wq": (WIDTH, HEADS * SIZE), "wk": (WIDTH, KV * SIZE), "wv": (WIDTH, KV * SIZE)}
    arrays = {n: RNG.standard_normal(s).astype(np.float32) / 5 for n, s in shapes.items()}
    whole = np.concatenate([arrays[n] for n in ("wq", "wk", "wv")], axis=1)
    more = {"wo": (HEADS * SIZE, WIDTH), "up": (WIDTH, 96), "down": (96, WIDTH)}
    arrays |= {n: RNG.standard_normal(s).astype(np.float32) / 5 for n, s in more.items()}
    norm = {"gamma": np.ones(WIDTH, np.float32), "beta": np.zeros(WIDTH, np.float32)}
    one = {"one": np.array(1, np.int32), "axis": np.array([1]), "total": np.array(5, np.int32)}
    one["places"] = np.array([[1, 0, 3, 2, 4]] * len(MASK))  # of which the operator follows the first alone
    return {**arrays, **norm, **one, "whole": whole, "cos": np.cos(turns), "sin": np.sin(turns)}


def model(
    *,
    packed: bool = False,
    rotary: int = 0,
    counted: bool = True,
    cache: bool = False,
    places: bool = False,
    **settings: Any,
) -> ir.Model:
    """Return a layer of an encoder whose attention is one node; ids, mask and outputs as an encoder has them."""
    node = helper.make_node
    made = [
        node("Gather", ["table", "input_ids"], ["x"]),
        *(
            [node("MatMul", ["x", "whole"], ["q"])]
            if packed
            else [node("MatMul", ["x", w], [n]) for n, w in (("q", "wq"), ("k", "wk"), ("v", "wv"))]
        ),
        node("ReduceSum", ["attention_mask", "axis"], ["sum"], keepdims=0),
        node("Cast", ["sum"], ["count"], to=TensorProto.INT32),
        node("Sub", ["count", "one"], ["lengths"]),
        node(
            "GroupQueryAttention",
            ["q", *(["", ""] if packed else ["k", "v"]), *(["past", "past"] if cache else ["", ""]),
             "lengths" if counted else "given", "total", *(["cos", "sin"] if rotary else []),
             *(["places"] if places else [])],
            ["mixed", "keys", "values"], domain="com.microsoft", name="n", num_heads=HEADS, kv_num_heads=KV,
            do_rotary=int(rotary > 0), rotary_interleaved=int(rotary > 1), **settings,
        ),
        node("MatMul", ["mixed", "wo"], ["projected"]),
        node("Add", ["projected", "x"], ["sum_1"]),
        node("LayerNormalization", ["sum_1", "gamma", "beta"], ["normal"]),
        node("MatMul", ["normal", "up"], ["wide"]),
        node("Relu", ["wide"], ["active"]),
        node("MatMul", ["active", "down"], ["narrow"]),
        node("Add", ["narrow", "normal"], ["sum_2"]),
        node("LayerNormalization", ["sum_2", "gamma", "beta"], ["last_hidden_state"]),
    ]  # fmt: skip
    inputs = [helper.make_tensor_value_info(n, TensorProto.INT64, ["batch", "sequence"]) for n in FEEDS]
    if not counted:
        inputs.append(helper.make_tensor_value_info("given", TensorProto.INT32, ["batch"]))
    if cache:
        inputs.append(helper.make_tensor_value_info("past", TensorProto.FLOAT, ["batch", KV, "past", SIZE]))
    out = [helper.make_tensor_value_info("last_hidden_state", TensorProto.FLOAT, ["batch", "sequence", WIDTH])]
    arrays = [numpy_helper.from_array(a, n) for n, a in weights().items()]
    imports = [helper.make_opsetid("", 17), helper.make_opsetid("com.microsoft", 1)]
    graph = helper.make_graph(made, "g", inputs, out, arrays)
    import onnx

    proto = helper.make_model(graph, opset_imports=imports, ir_version=10)
    return ir.from_proto(onnx.shape_inference.infer_shapes(proto))


def rows(answer: np.ndarray) -> np.ndarray:
    """Return the tokens that count: the operator leaves others unspecified."""
    return answer[MASK.astype(bool)]


@pytest.mark.parametrize(
    "options",
    [{}, {"packed": True}, {"rotary": 1}, {"rotary": 2, "packed": True}, {"scale": 0.3}, {"rotary": 1, "places": True}],
    ids=str,
)
def test_answers_are_those_of_the_operator(options: dict) -> None:
    made = model(**options)
    reading: Reading = as_read(made)
    assert not [n for n in reading.graph if n.domain == "com.microsoft"]
    np.testing.assert_allclose(rows(run(reading.model, FEEDS)), rows(run(made, FEEDS)), atol=1e-5)


@pytest.mark.parametrize("rotary", [0, 1])
def test_the_canonical_form_has_groups_and_an_order(rotary: int) -> None:
    made = model(rotary=rotary)
    canonical = canonicalize(as_read(made).model, longest=16).model
    block = anatomy_of(canonical)["blocks"][0]
    (attention,) = [n for n in canonical.graph if n.op_type == "Attention"]
    settings = {n: attention.attributes[n].value for n in ("q_num_heads", "kv_num_heads", "is_causal")}
    assert settings == {"q_num_heads": HEADS, "kv_num_heads": KV, "is_causal": 1}, block
    np.testing.assert_allclose(rows(run(canonical, FEEDS)), rows(run(made, FEEDS)), atol=1e-5)


@pytest.mark.parametrize(
    ("options", "match"),
    [
        ({"cache": True}, "it has a cache of keys and values"),
        ({"counted": False}, "not counted from a mask"),
        ({"local_window_size": 3}, "a window of others"),
        ({"softcap": 5.0}, "softcap = 5.0"),
        ({"smooth_softmax": 1}, "smooth_softmax = 1"),
        ({"packed": True, "rotary": 1, "name_of_heads": 3}, "in 2 groups: the file is damaged"),
    ],
    ids=str,
)
def test_what_an_encoder_lacks_is_refused(options: dict, match: str) -> None:
    heads = options.pop("name_of_heads", None)
    made = model(**options)
    if heads is not None:
        node = next(n for n in made.graph if n.op_type == "GroupQueryAttention")
        node.attributes["num_heads"] = ir.AttrInt64("num_heads", heads)
    from headway.exporter.capture.onnx_forms import read_forms

    with pytest.raises(SourceError, match=match):
        read_forms(made, Path("m.onnx"))
