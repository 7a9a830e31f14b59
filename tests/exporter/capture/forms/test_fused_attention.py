"""Fused attention: written out again, with heads and masks as the float file has them."""

from pathlib import Path

import numpy as np
import onnx_ir as ir
import pytest
from onnx import helper

from headway.errors import SourceError
from headway.exporter.export import export
from headway.exporter.recipe.recipe import Recipe

from tests.support.tool_forms import (
    anatomy_of,
    as_read,
    check_one,
    file_outputs,
    fused,
    one_node,
    read,
    refuse_one,
    run,
)

RNG = np.random.default_rng(0)
X = RNG.standard_normal((2, 3, 8)).astype(np.float32)
W = {"w": RNG.standard_normal((8, 24)).astype(np.float32), "b": RNG.standard_normal(24).astype(np.float32)}
MASK = np.array([[1, 1, 0], [1, 1, 1]], np.int32)


def attention(names: list[str], **settings: object):
    return helper.make_node("Attention", names, ["y"], domain="com.microsoft", name="n", num_heads=2, **settings)


def separate(names: list[str], **settings: object):
    return helper.make_node(
        "MultiHeadAttention", names, ["y"], domain="com.microsoft", name="n", num_heads=2, **settings
    )


@pytest.mark.parametrize(
    "options",
    [{}, {"use_raw_attention_mask": True}, {"use_multi_head_attention": True}],
    ids=["merged", "raw mask", "separate"],
)
def test_a_fused_file_is_read_as_the_float_one(options: dict, made, anatomy: dict, plain_outputs: np.ndarray) -> None:
    path = made(fused(**options))
    kinds = {n.op_type for n in ir.load(path).graph}
    assert (
        kinds & {"Attention", "MultiHeadAttention"}
        and {"SkipLayerNormalization", "BiasGelu", "EmbedLayerNormalization"} <= kinds
    )
    captured, model = read(path)
    assert anatomy_of(model) == anatomy and "without the rounding" not in captured.reference.judge
    assert np.abs(run(model) - file_outputs(path)).max() < 1e-6
    assert np.abs(run(model) - plain_outputs).max() < 1e-6


def test_a_fused_file_is_exported(made, tmp_path: Path) -> None:
    done = export(Recipe(source=str(made(fused()))), tmp_path / "out")
    assert done.manifest.lowering == {"attention": 2, "gelu": 2}
    assert max(o.max_abs for o in done.parity.outputs) < 1e-5


@pytest.mark.parametrize(
    "mask", [None, MASK, np.repeat(MASK[:, None], 3, axis=1)], ids=["none", "keys", "queries and keys"]
)
def test_masks(mask: np.ndarray | None) -> None:
    inputs = {"x": X} if mask is None else {"x": X, "m": mask}
    names = ["x", "w", "b", *(["m"] if mask is not None else [])]
    check_one(attention(names), inputs, W)
    check_one(attention(names, scale=0.3, mask_filter_value=-50000.0), inputs, W)


def test_an_additive_bias_and_other_widths() -> None:
    bias = RNG.standard_normal((1, 2, 3, 3)).astype(np.float32)
    check_one(attention(["x", "w", "b", "m", "", "t"]), {"x": X, "m": MASK, "t": bias}, W)
    check_one(attention(["x", "w", "b"], qkv_hidden_sizes=[6, 6, 12]), {"x": X}, W)


@pytest.mark.parametrize("bias", [True, False])
def test_queries_keys_and_values_by_themselves(bias: bool) -> None:
    names = ["q", "k", "v", "b" if bias else "", "m"]
    inputs = {"q": X, "k": X * 2, "v": X + 1, "m": MASK}
    more = {"b": W["b"]} if bias else {}
    made = separate(names) if bias else separate(names, scale=0.5)
    check_one(made, inputs, more)


@pytest.mark.parametrize(
    ("settings", "weights", "match"),
    [
        ({"do_rotary": 1}, W, "it rotates queries and keys by angles that are not in the file"),
        ({"qkv_hidden_sizes": [8, 8, 9]}, W, r"does not hold \[8, 8, 9\] columns: the file is damaged"),
        ({}, {**W, "w": W["w"][:, :22]}, "does not hold .* columns: the file is damaged"),
        ({}, {**W, "b": W["b"][:5]}, "a bias of shape .5. for 24 columns"),
        ({"num_heads": 3}, W, "3 heads do not divide"),
        ({"num_heads": 0}, W, "it has 0 heads"),
    ],
)
def test_what_an_encoder_lacks_or_does_not_fit_is_refused(settings: dict, weights: dict, match: str) -> None:
    made = attention(["x", "w", "b"])
    for name, value in settings.items():
        for old in [a for a in made.attribute if a.name == name]:
            made.attribute.remove(old)
        made.attribute.append(helper.make_attribute(name, value))
    refuse_one(match, made, {"x": X}, weights)


def test_an_order_of_the_tokens() -> None:
    check_one(attention(["x", "w", "b", "m"], unidirectional=1), {"x": X, "m": np.ones_like(MASK)}, W)
    check_one(separate(["q", "k", "v", "b"], unidirectional=1), {"q": X, "k": X * 2, "v": X + 1}, {"b": W["b"]})


def test_packed_queries_keys_and_values() -> None:
    whole = RNG.standard_normal((2, 3, 2, 3, 4)).astype(np.float32)
    model = one_node(separate(["qkv"]), {"qkv": whole}, {})
    model.graph.inputs[0].shape = ir.Shape(["batch", "sequence", 2, 3, 4])
    parts = [np.ascontiguousarray(whole[:, :, :, i]).reshape(2, 3, 8) for i in range(3)]
    apart = one_node(separate(["q", "k", "v"], scale=0.5), dict(zip("qkv", parts, strict=True)), {})
    answer = run(as_read(model).model, {"qkv": whole})
    np.testing.assert_allclose(answer, run(apart, dict(zip("qkv", parts, strict=True))), atol=1e-5)
    model.graph.inputs[0].shape = ir.Shape(["batch", "sequence", 2, 5, 4])
    with pytest.raises(SourceError, match="3 parts in an input of shape"):
        as_read(model)


def test_caches_and_decoders_are_refused() -> None:
    past = RNG.standard_normal((2, 2, 2, 3, 4)).astype(np.float32)
    refuse_one("it has a cache", attention(["x", "w", "b", "", "p"]), {"x": X, "p": past}, W)
    made = helper.make_node("SparseAttention", ["x", "x", "x"], ["y"], domain="com.microsoft", name="n", num_heads=2)
    refuse_one("an attention of decoders", made, {"x": X}, {})
    made = helper.make_node("PackedAttention", ["x"], ["y"], domain="com.microsoft", name="n", num_heads=2)
    refuse_one("a form of attention that is not read", made, {"x": X}, {})
    lengths = np.array([2, 3], np.int32)
    refuse_one("a mask of 1 axes is not read", attention(["x", "w", "b", "m"]), {"x": X, "m": lengths}, W)
