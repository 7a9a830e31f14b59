"""Operators that take and give integers: read as float operators between conversions, with the integers of their weights."""

from pathlib import Path

import numpy as np
import pytest
from onnx import helper

from headway.exporter.export import export
from headway.exporter.recipe.recipe import Recipe

from tests.support.tool_forms import (
    FEEDS,
    anatomy_of,
    as_read,
    check_one,
    file_outputs,
    one_node,
    read,
    refuse_one,
    run,
    same_integers,
    static,
)

RNG = np.random.default_rng(0)
Q = RNG.integers(0, 256, (2, 3, 8)).astype(np.uint8)
W = RNG.integers(-63, 64, (8, 5)).astype(np.int8)  # of 7 bits: sums of larger ones saturate where x86 has no VNNI
STEP, ZERO = np.float32(0.02), np.uint8(100)


@pytest.mark.parametrize(
    ("form", "options", "integers"),
    [
        ("QOperator", {"per_channel": True}, 17),
        ("QOperator", {"op_types_to_quantize": ["MatMul", "Gemm"]}, 14),
        ("QDQ", {"per_channel": True}, 17),
    ],
    ids=["whole", "matmuls", "pairs"],
)
def test_a_static_file_keeps_its_integers(form: str, options: dict, integers: int, made, anatomy: dict) -> None:
    path = made(static(form, **options))
    captured, model = read(path)
    assert same_integers(model, path) == integers and anatomy_of(model) == anatomy
    judged = captured.reference.run(FEEDS)["logits"]
    assert np.abs(run(model) - judged).max() < 1e-3  # a value half-way between two steps may go either way
    assert np.abs(file_outputs(path) - judged).max() < 0.02
    assert "without the rounding of activations elsewhere than in front of matmuls" in captured.reference.judge


def test_a_static_file_is_exported(made, tmp_path: Path) -> None:
    done = export(Recipe(source=str(made(static("QOperator", per_channel=True)))), tmp_path / "out")
    assert done.manifest.lowering["static_int8"] >= 12 and done.parity.dtype == "int8"


def quantized(node, inputs: dict, weights: dict) -> None:
    """Check one operator whose output is quantized: equal but where a value lies half-way between two steps."""
    model = one_node(node, inputs, weights)
    reading = as_read(model)
    assert not [n for n in reading.graph if n.domain == "com.microsoft" or n.op_type.startswith("QLinear")]
    back = {"step": np.float64(weights["step"])}
    mine, theirs = (run(m, inputs).astype(np.float64) for m in (reading.model, model))
    assert np.abs(mine - theirs).max() <= 1 and (mine != theirs).mean() < 0.05 and back["step"] > 0


PAIR = ["step", "zero"]
BASE = {"step": np.asarray(STEP), "zero": np.asarray(ZERO)}


@pytest.mark.parametrize(
    ("op_type", "names", "settings"),
    [
        ("QLinearAdd", ["q", *PAIR, "p", *PAIR, *PAIR], {}),
        ("QLinearMul", ["q", *PAIR, "p", *PAIR, *PAIR], {}),
        ("QLinearSigmoid", ["q", *PAIR, *PAIR], {}),
        ("QLinearLeakyRelu", ["q", *PAIR, *PAIR], {"alpha": 0.2}),
        ("QLinearConcat", [*PAIR, "q", *PAIR, "p", *PAIR], {"axis": 1}),
        ("QLinearWhere", ["c", "q", *PAIR, "p", *PAIR, *PAIR], {}),
    ],
)
def test_operators_between_integers(op_type: str, names: list[str], settings: dict) -> None:
    node = helper.make_node(op_type, names, ["y"], domain="com.microsoft", name="n", **settings)
    inputs = {"q": Q, "p": Q[::-1].copy(), "c": Q > 100}
    inputs = {n: a for n, a in inputs.items() if n in names}
    model = one_node(node, inputs, BASE)
    model.graph.outputs[0].type = None  # uint8
    import onnx_ir as ir

    model.graph.outputs[0].type = ir.TensorType(ir.DataType.UINT8)
    reading = as_read(model)
    mine, theirs = (run(m, inputs).astype(np.int16) for m in (reading.model, model))
    assert np.abs(mine - theirs).max() <= 1 and (mine != theirs).mean() < 0.05


def test_a_gemm_of_integers_with_a_bias_in_integers() -> None:
    names = ["q", "step", "zero", "w", "scales", "zeros", "bias"]
    node = helper.make_node("QGemm", names, ["y"], domain="com.microsoft", name="n", transB=1)
    weights = {
        **BASE,
        "w": np.ascontiguousarray(W.T),
        "scales": np.linspace(0.001, 0.01, 5).astype(np.float32),
        "zeros": np.zeros(5, np.int8),
        "bias": np.arange(5, dtype=np.int32) * 1000,
    }
    check_one(node, {"q": Q[0]}, weights, tolerance=1e-4)
    refuse_one("biases and 5 scales", node, {"q": Q[0]}, {**weights, "bias": np.zeros(7, np.int32)})
    refuse_one("scales of shape .4. for 5", node, {"q": Q[0]}, {**weights, "scales": np.ones(4, np.float32)})
