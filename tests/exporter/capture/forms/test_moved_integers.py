"""Integers that are looked up or reshaped before they become float."""

import numpy as np
import pytest
from onnx import helper

from headway.errors import SourceError
from headway.exporter.graph.edit import nodes

from tests.support.hand_made import load
from tests.support.tool_forms import as_read, run

TABLE = np.random.default_rng(0).integers(0, 256, (50, 8)).astype(np.uint8)
IDS = {"input_ids": np.array([[1, 2, 49]])}


def model(scale: np.ndarray, zero: np.ndarray):
    looks = [helper.make_node("Gather", ["table", "input_ids"], [f"q{i}"], name=f"look{i}") for i in (0, 1)]
    return load(
        [
            *looks,
            helper.make_node("Reshape", ["q0", "shape"], ["r"]),
            helper.make_node("DequantizeLinear", ["r", "scale", "zero"], ["a"], name="back"),
            helper.make_node("DequantizeLinear", ["q1", "scale", "zero"], ["b"]),
            helper.make_node("Reshape", ["b", "shape"], ["c"]),
            helper.make_node("Add", ["a", "c"], ["y"]),
        ],
        {"table": TABLE, "shape": np.array([0, -1, 4]), "scale": scale, "zero": zero},
        ["y"],
        opset=17,
        mask=False,
    )


def test_floats_are_moved_instead() -> None:
    source = model(np.float32(0.1), np.uint8(120))
    reading = as_read(source)
    np.testing.assert_array_equal(run(reading.model, IDS), run(source, IDS))
    (back,) = nodes(reading.graph, "DequantizeLinear")  # one table of floats, however often it is looked up
    assert back.inputs[0] is not None and back.inputs[0].name == "table"


def test_scales_of_channels_that_moved_are_refused() -> None:
    source = model(np.full(4, 0.1, np.float32), np.zeros(4, np.uint8))
    for node in nodes(source.graph, "DequantizeLinear"):
        node.attributes.add(__import__("onnx_ir").AttrInt64("axis", 2))
    with pytest.raises(
        SourceError, match=r"'.*' .DequantizeLinear.: its integers come from \w+ with a scale of their own"
    ):
        as_read(source)
