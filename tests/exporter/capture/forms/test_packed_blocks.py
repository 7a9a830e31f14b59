"""Weights packed in blocks: the same floats as ONNX Runtime makes of them, in integers and scales of the file."""

from pathlib import Path

import numpy as np
import onnx
import onnx_ir as ir
import pytest
from onnx import helper, numpy_helper

from headway.exporter.capture.forms.packed_blocks import unpack
from headway.exporter.export import export
from headway.exporter.graph.edit import constant
from headway.exporter.graph.stored_weights import stored_of
from headway.exporter.recipe.recipe import Recipe

from tests.support.tool_forms import (
    FEEDS,
    anatomy_of,
    as_read,
    blocks,
    check_one,
    file_outputs,
    one_node,
    read,
    refuse_one,
    run,
)

RNG = np.random.default_rng(0)
X = RNG.standard_normal((2, 3, 48)).astype(np.float32)
N, K = 5, 48
"""48 inputs are one and a half blocks of 32."""


def packed(bits: int, block: int = 32, **more: np.ndarray) -> dict[str, np.ndarray]:
    count = -(-K // block)
    return {
        "b": RNG.integers(0, 256, (N, count, block * bits // 8)).astype(np.uint8),
        "s": RNG.uniform(-0.02, 0.02, (N, count)).astype(np.float32),
        **more,
    }


def matmul(names: list[str], bits: int = 4, block: int = 32, **more: int) -> onnx.NodeProto:
    return helper.make_node(
        "MatMulNBits", names, ["y"], domain="com.microsoft", name="n", K=K, N=N, bits=bits, block_size=block, **more
    )


@pytest.mark.parametrize(
    ("options", "int4"),
    [
        ({"block_size": 16, "is_symmetric": True}, 12),
        ({"block_size": 16, "is_symmetric": False}, 12),
        ({"block_size": 32, "is_symmetric": True, "bits": 8}, 0),
        ({"block_size": 16, "is_symmetric": True, "pairs": True}, 12),
        ({"block_size": 16, "is_symmetric": False, "pairs": True}, 12),
    ],
    ids=["4 bits", "4 bits, zero points", "8 bits", "pairs", "pairs, zero points"],
)
def test_a_file_in_blocks_keeps_its_integers(options: dict, int4: int, made, anatomy: dict) -> None:
    path = made(blocks(**options))
    captured, model = read(path)
    whole = [v for v in model.graph.initializers.values() if v.dtype in (ir.DataType.INT4, ir.DataType.INT8)]
    held = [v for v in whole if not str(v.name).endswith("_zero_point")]
    assert len(held) == 12 and sum(v.dtype == ir.DataType.INT4 for v in held) == int4
    assert anatomy_of(model) == anatomy
    assert "without the rounding" not in captured.reference.judge
    assert np.abs(run(model) - file_outputs(path)).max() < 1e-6
    if "pairs" not in options and options.get("bits", 4) == 4:  # the very codes, unpacked here by themselves
        packed_ones = [a for i in onnx.load(path).graph.initializer if (a := numpy_helper.to_array(i)).ndim == 3]
        codes = {tuple(sorted(nibbles(a).tolist())) for a in packed_ones}
        assert len(codes) == 12
        if int4:
            ours = {tuple(sorted((constant(v).astype(np.int16) + 8).ravel().tolist())) for v in held}  # type: ignore[union-attr]
            assert ours == codes


def nibbles(array: np.ndarray) -> np.ndarray:
    return np.concatenate([(array & 15).ravel(), (array >> 4).ravel()]).astype(np.int16)


def test_activations_in_8_bits_are_left_out_and_said(made) -> None:
    path = made(blocks(block_size=16, is_symmetric=True, accuracy_level=4))
    captured, model = read(path)
    judged = captured.reference.run(FEEDS)["logits"]
    assert np.abs(run(model) - judged).max() < 1e-6
    assert np.abs(file_outputs(path) - judged).max() > 1e-6
    assert "without the rounding of activations to 8 bits in front of matmuls by packed" in captured.reference.judge


@pytest.mark.parametrize("symmetric", [True, False])
def test_an_export_is_as_small_as_the_file(symmetric: bool, made, tmp_path: Path) -> None:
    done = export(Recipe(source=str(made(blocks(block_size=16, is_symmetric=symmetric)))), tmp_path / "out")
    assert done.manifest.lowering["int4"] == 12
    assert max(o.max_abs for o in done.parity.outputs) < 1e-5


@pytest.mark.parametrize("bits", [2, 4, 8])
@pytest.mark.parametrize("zeros", ["none", "packed", "floats"])
def test_every_size_of_integers(bits: int, zeros: str) -> None:
    count = 2
    names, more = ["x", "b", "s"], {}
    if zeros == "packed":
        more["z"] = RNG.integers(0, 256, (N, -(-count * bits // 8))).astype(np.uint8)
    elif zeros == "floats":
        more["z"] = RNG.uniform(0, 3, (N, count)).astype(np.float32)
    names += ["z"] if more else []
    if bits == 8 and zeros == "floats":  # which ONNX Runtime does not compute on CPUs
        reading = as_read(one_node(matmul(names, bits), {"x": X}, packed(bits, **more)))
    else:
        reading = check_one(matmul(names, bits), {"x": X}, packed(bits, **more), tolerance=1e-4)
    assert bool(stored_of(reading.model)) == (zeros != "floats")
    assert ("its zero points are no integers" in " ".join(reading.notes)) == (zeros == "floats")


@pytest.mark.parametrize("reordered", [True, False])
def test_inputs_in_another_order(reordered: bool) -> None:
    groups = (np.arange(K) // 32).astype(np.int32)
    weights = packed(4, g=groups[::-1].copy() if reordered else groups)
    reading = as_read(one_node(matmul(["x", "b", "s", "", "g"]), {"x": X}, weights))
    assert bool(stored_of(reading.model)) != reordered
    levels = unpack(weights["b"], 4).reshape(N, -1)[:, :K].T.astype(np.float64) - 8
    real = levels * weights["s"].T[weights["g"]]
    np.testing.assert_allclose(run(reading.model, {"x": X}), X @ real, atol=1e-4)


def test_a_bias() -> None:
    check_one(
        matmul(["x", "b", "s", "", "", "c"]), {"x": X}, packed(4, c=np.arange(N, dtype=np.float32)), tolerance=1e-4
    )


@pytest.mark.parametrize("zeros", [True, False])
def test_a_lookup_of_blocks(zeros: bool) -> None:
    ids = np.array([[0, 3, 6]])
    weights = {
        "b": RNG.integers(0, 256, (7, 16)).astype(np.uint8),
        "s": RNG.uniform(0.01, 0.02, (7, 2)).astype(np.float32),
        "z": RNG.integers(0, 256, (7, 1)).astype(np.uint8),
    }
    node = helper.make_node(
        "GatherBlockQuantized",
        ["b", "x", "s", "z"][: 3 + zeros],
        ["y"],
        domain="com.microsoft",
        name="n",
        bits=4,
        block_size=16,
        quantize_axis=1,
        gather_axis=0,
    )
    check_one(node, {"x": ids}, weights)
    refuse_one("its scales has 3 entries", node, {"x": ids}, {**weights, "s": np.ones(3, np.float32)})


@pytest.mark.parametrize(
    ("change", "settings", "match"),
    [
        (
            {"b": np.zeros((N, 2, 15), np.uint8)},
            {},
            "its packed weight has 150 entries .uint8., and its sizes ask for 160",
        ),
        ({"b": np.zeros((N, 2, 16), np.float32)}, {}, r"its packed weight has 160 entries .float32."),
        ({"s": np.ones((N, 3), np.float32)}, {}, "its scales has 15 entries .* ask for 10: the file is damaged"),
        ({"s": np.full((N, 2), np.inf, np.float32)}, {}, "a scale is not finite"),
        ({"z": np.zeros(3, np.uint8)}, {}, "its zero points has 3 entries"),
        ({"g": np.full(K, 9, np.int32)}, {}, "its g_idx names blocks that are not there"),
        ({}, {"bits": 3}, "bits 3 in blocks of 32 are not read"),
        ({}, {"block_size": 33}, "bits 4 in blocks of 33"),
        ({}, {"K": 1 << 30, "N": 1 << 30}, "is none: the file is damaged"),
        ({}, {"K": 1 << 20}, "its sizes ask for 2621440: the file is damaged"),
    ],
)
def test_damaged_packing_is_refused_by_name(change: dict, settings: dict, match: str) -> None:
    node = matmul(["x", "b", "s", "z" if "z" in change else "", "g" if "g" in change else ""])
    for attribute in node.attribute:
        attribute.i = settings.get(attribute.name, attribute.i)
    refuse_one(match, node, {"x": X}, {**packed(4), **change})


def test_weights_that_are_computed_are_refused() -> None:
    inputs = packed(4)
    refuse_one("its scales is not a constant", matmul(["x", "b", "s"]), {"x": X, "s": inputs.pop("s")}, inputs)


def test_unpacking_takes_the_lowest_bits_first() -> None:
    byte = np.array([[0b11100100]], np.uint8)
    assert unpack(byte, 2).tolist() == [[0, 1, 2, 3]]
    assert unpack(byte, 4).tolist() == [[4, 14]] and unpack(byte, 8).tolist() == [[228]]
