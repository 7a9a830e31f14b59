"""Integers of a source where its target or the passes need floats: the same numbers, and a sentence."""

import warnings
from dataclasses import replace
from pathlib import Path

import numpy as np
import onnx_ir as ir
import pytest
from onnx import helper

from headway.calibration.rounding import nearest
from headway.errors import HeadwayWarning, UsageError
from headway.exporter.compress.source_integers import hold_for_target, kind_of_answers, read_as_floats
from headway.exporter.graph.edit import nodes
from headway.exporter.graph.quantized import fixed_scale, quantize_weight, round_fixed
from headway.exporter.source.checkpoints.checkpoint import Checkpoint
from headway.exporter.source.source import open_source
from headway.exporter.targets.base import TargetSpec

from tests.support.hand_made import load
from tests.support.tool_forms import run

IDS = {"input_ids": np.array([[1, 2]])}


def model() -> ir.Model:
    rng = np.random.default_rng(0)
    weights = {"table": rng.normal(size=(50, 8)).astype(np.float32), "w": rng.normal(size=(8, 5)).astype(np.float32)}
    operators = [
        helper.make_node("Gather", ["table", "input_ids"], ["x"]),
        helper.make_node("MatMul", ["x", "w"], ["y"]),
    ]
    made = load(operators, weights, ["y"], mask=False)
    quantize_weight(made.graph, made.graph.initializers["w"], nearest(weights["w"]))
    return made


@pytest.mark.parametrize(("integers", "kept"), [("any", True), ("symmetric", True), ("none", False)])
def test_a_target_that_stores_none_gets_floats(integers, kept: bool) -> None:
    made = model()
    wanted = run(made, IDS)
    spec = replace(TargetSpec("paper", neuron_multiple=1, rank_multiple=1), integers=integers)
    if kept:
        with warnings.catch_warnings():
            warnings.simplefilter("error")
            hold_for_target(made, "m.onnx", spec)
    else:
        with pytest.warns(HeadwayWarning, match=r"m\.onnx: w: held as the numbers .* target paper does not store"):
            hold_for_target(made, "m.onnx", spec)
    assert bool(nodes(made.graph, "DequantizeLinear")) == kept
    np.testing.assert_allclose(run(made, IDS), wanted, atol=1e-6)


def test_passes_get_floats_but_not_of_activations_with_ranges() -> None:
    made = model()
    wanted = run(made, IDS)
    with pytest.warns(
        HeadwayWarning, match=r"m\.onnx: 1 weights and embeddings are integers, and passes change the float32"
    ):
        read_as_floats(made, "m.onnx")
    assert not nodes(made.graph, "DequantizeLinear")
    np.testing.assert_allclose(run(made, IDS), wanted, atol=1e-6)
    made = model()
    (matmul,) = nodes(made.graph, "MatMul")
    value = matmul.inputs[0]
    assert value is not None
    matmul.replace_input_with(0, round_fixed(made.graph, matmul, value, *fixed_scale(-1, 1, signed=True)))
    with pytest.raises(UsageError, match=r"m\.onnx: it computes activations in integers .first: 'x\.quantized'"):
        read_as_floats(made, "m.onnx")


def test_answers_of_a_source_that_rounds_its_activations_are_int8s(bert: Path) -> None:
    source = open_source(str(bert))
    assert kind_of_answers(source) == "float32"
    for steps, kind in (({}, "float32"), ({"encoder.layer.0.output.dense": 0.1}, "int8")):
        checkpoint = Checkpoint(bert, {}, {}, rounded_inputs=steps)
        assert kind_of_answers(replace(source, checkpoint=checkpoint)) == kind
