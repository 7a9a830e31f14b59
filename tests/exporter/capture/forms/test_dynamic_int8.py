"""Matmuls with activations quantized at run time: their weights keep their integers, and the rounding of activations is said."""

from pathlib import Path

import numpy as np
import pytest
from onnx import helper
from onnxruntime.quantization import QuantType

from headway.errors import SourceError
from headway.exporter.export import export
from headway.exporter.recipe.recipe import Recipe, make_recipe

from tests.support.tool_forms import (
    FEEDS,
    anatomy_of,
    as_read,
    check_one,
    dynamic,
    file_outputs,
    form_of,
    fused,
    integers_of,
    one_node,
    read,
    refuse_one,
    run,
    same_integers,
)

X = np.random.default_rng(0).standard_normal((2, 3, 8)).astype(np.float32)
W = np.random.default_rng(1).integers(-63, 64, (8, 5)).astype(np.int8)
"""Of 7 bits: sums of larger ones saturate in ONNX Runtime where x86 has no VNNI."""

SCALES = np.linspace(0.001, 0.01, 5).astype(np.float32)


@pytest.mark.parametrize(
    ("options", "offset"),
    [
        ({}, False),
        ({"per_channel": True, "reduce_range": True}, False),  # else sums saturate where x86 has no VNNI
        ({"weight_type": QuantType.QUInt8}, True),
        ({"weight_type": QuantType.QUInt8, "extra_options": {"WeightSymmetric": True}}, False),
    ],
    ids=["int8", "per channel", "uint8", "uint8 around its middle"],
)
def test_a_dynamic_file_keeps_its_integers(options: dict, offset: bool, made, anatomy: dict) -> None:
    path = made(dynamic(**options))
    captured, model = read(path)
    assert same_integers(model, path) == 17
    zeros = [n for n in model.graph.initializers if n.endswith("_zero_point")]
    assert bool(zeros) == offset and anatomy_of(model) == anatomy
    judged = captured.reference.run(FEEDS)["logits"]
    assert np.abs(run(model) - judged).max() < 1e-6
    own = file_outputs(path)
    assert 1e-5 < np.abs(own - judged).max() < 0.02
    assert "without the rounding of activations to 8 bits at run time" in captured.reference.judge
    assert f"up to {np.abs(own - judged).max():.2g} where" in captured.reference.judge


def test_a_file_that_was_fused_first(plain: Path, tmp_path: Path, anatomy: dict) -> None:
    """Its attention and its embeddings are integers, too."""

    def make(float_file: Path, out: Path) -> None:
        fused()(float_file, out.with_name("fused.onnx"))
        dynamic(extra_options={"DefaultTensorType": 1})(out.with_name("fused.onnx"), out)

    path = form_of(plain, tmp_path / "made", make)
    captured, model = read(path)
    assert len(integers_of(model)) == 17 and anatomy_of(model) == anatomy
    assert np.abs(run(model) - captured.reference.run(FEEDS)["logits"]).max() < 1e-6
    assert np.abs(run(model) - file_outputs(path)).max() < 0.02


def test_an_export_holds_the_integers_and_says_what_was_left_out(made, tmp_path: Path) -> None:
    path = made(dynamic(op_types_to_quantize=["MatMul"]))
    done = export(Recipe(source=str(path)), tmp_path / "out")
    assert done.manifest.lowering["weight_only"] == 14
    assert max(o.max_abs for o in done.parity.outputs) < 1e-5
    assert "at run time, by one range for a whole batch; the file itself differs" in (done.parity.reference or "")


@pytest.mark.parametrize("zero", [None, np.uint8(120)])
@pytest.mark.parametrize("bias", [True, False])
def test_the_fused_operators(bias: bool, zero: np.uint8 | None) -> None:
    """Their own outputs differ by the rounding of activations alone: half a step of each of 8 inputs."""
    weight = (W.astype(np.int16) + 120).clip(0, 255).astype(np.uint8) if zero is not None else W
    more = {"zero": np.asarray(zero)} if zero is not None else {}
    names = ["x", "w", "s", "zero" if more else "", "b" if bias else ""]
    node = helper.make_node("DynamicQuantizeMatMul", names, ["y"], domain="com.microsoft", name="n")
    weights = {
        "w": weight,
        "s": SCALES if zero is None else SCALES[:1].reshape(()),
        "b": np.ones(5, np.float32),
        **more,
    }
    model = one_node(node, {"x": X}, weights)
    reading = as_read(model)
    step = (X.max() - X.min()) / 255
    bound = 8 * step / 2 * 255 * float(SCALES.max())
    assert np.abs(run(reading.model, {"x": X}) - run(model, {"x": X})).max() < bound
    real = (weight.astype(np.float64) - float(zero or 0)) * (SCALES if zero is None else SCALES[0])
    np.testing.assert_allclose(run(reading.model, {"x": X}), X @ real + bias, atol=1e-5)
    assert reading.rounded


def test_static_integers_times_integers() -> None:
    node = helper.make_node(
        "MatMulIntegerToFloat", ["q", "w", "step", "s", "zero"], ["y"], domain="com.microsoft", name="n"
    )
    q = np.random.default_rng(2).integers(0, 256, (2, 3, 8)).astype(np.uint8)
    weights = {"w": W, "s": SCALES, "step": np.float32(0.02), "zero": np.uint8(100)}
    assert not check_one(node, {"q": q}, weights).rounded


@pytest.mark.parametrize(
    ("change", "match"),
    [
        ({"s": np.ones(4, np.float32)}, "scales of shape .4. for 5 channels: the file is damaged"),
        ({"s": np.full(5, np.nan, np.float32)}, "a scale is not finite: the file is damaged"),
        ({"w": W.astype(np.int32)}, "its weight is int32"),
        ({"w": W[0]}, "its weight is int8 with 1 axes"),
        ({"zero": np.zeros(3, np.int8)}, "scales of shape .3. for 5 channels"),
    ],
)
def test_what_does_not_fit_is_refused_by_name(change: dict, match: str) -> None:
    node = helper.make_node("DynamicQuantizeMatMul", ["x", "w", "s", "zero"], ["y"], domain="com.microsoft", name="n")
    refuse_one(match, node, {"x": X}, {"w": W, "s": SCALES, "zero": np.zeros(5, np.int8), **change})


def test_scales_that_are_missing_are_refused() -> None:
    node = helper.make_node("DynamicQuantizeMatMul", ["x", "w", "s"], ["y"], domain="com.microsoft", name="n")
    refuse_one("its scale of the weight is not a constant", node, {"x": X, "s": SCALES}, {"w": W})
    node = helper.make_node("MatMulInteger", ["x", "w"], ["y"], name="n")
    refuse_one("not quantized by DynamicQuantizeLinear", node, {"x": X.astype(np.int8)}, {"w": W})


def test_recurrent_layers_are_refused() -> None:
    node = helper.make_node("DynamicQuantizeLSTM", ["x", "w"], ["y"], domain="com.microsoft", name="n")
    with pytest.raises(SourceError, match=r"'n' .DynamicQuantizeLSTM.: a quantized recurrent layer"):
        as_read(one_node(node, {"x": X}, {"w": W}))


def test_phones_run_the_integers_with_float_activations(made, tmp_path: Path) -> None:
    done = export(make_recipe("test", source=str(made(dynamic())), target="ort-mobile"), tmp_path / "out")
    assert max(o.max_abs for o in done.parity.outputs) < 1e-5
