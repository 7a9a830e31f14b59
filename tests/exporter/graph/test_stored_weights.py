"""Integers of a source's weights: noted beside the floats that they stand for, and put back code by code."""

import numpy as np
import onnx_ir as ir
import pytest
from onnx import helper

from headway.exporter.graph.edit import constant, nodes
from headway.exporter.graph.stored_weights import (
    StoredWeight,
    along,
    hold_for,
    hold_in_float,
    note_stored,
    put_stored,
    stored_and_float,
    stored_of,
)

from tests.support.hand_made import load
from tests.support.lstms import INPUT_WEIGHTS, both, lstm
from tests.support.one_node import model_of
from tests.support.tool_forms import run

RNG = np.random.default_rng(0)
IDS = {"input_ids": np.array([[1, 2, 49]])}


def model(weight: np.ndarray, *, turned: bool = False, gemm: bool = False) -> ir.Model:
    """Return a matmul of looked-up rows, by a weight as it is, transposed, or in a Gemm."""
    table = RNG.standard_normal((50, 8)).astype(np.float32)
    looked = [helper.make_node("Gather", ["table", "input_ids"], ["x"])]
    if gemm:
        flat = [helper.make_node("Reshape", ["x", "flat"], ["f"])]
        multiplied = [*flat, helper.make_node("Gemm", ["f", "w", "bias"], ["y"], transB=int(turned))]
    elif turned:
        multiplied = [
            helper.make_node("Transpose", ["w"], ["t"], perm=[1, 0]),
            helper.make_node("MatMul", ["x", "t"], ["y"]),
        ]
    else:
        multiplied = [helper.make_node("MatMul", ["x", "w"], ["y"])]
    weights = {"table": table, "w": weight, "flat": np.array([-1, 8]), "bias": np.ones(5, np.float32)}
    used = {name for n in multiplied for name in n.input} | {"table"}
    return load([*looked, *multiplied], {k: v for k, v in weights.items() if k in used}, ["y"], mask=False)


def integers(low: int, high: int, shape: tuple[int, ...] = (8, 5)) -> np.ndarray:
    return RNG.integers(low, high + 1, shape)


@pytest.mark.parametrize(
    ("q", "zero", "kept_zero"),
    [
        (integers(-128, 127).astype(np.int8), None, False),
        (integers(0, 255).astype(np.uint8), np.uint8(128), False),
        (integers(0, 255).astype(np.uint8), np.uint8(3), True),
        (integers(-128, 127).astype(np.int8), np.arange(5).astype(np.int8) * 20, True),
        (integers(0, 15).astype(np.uint8), np.uint8(15), False),
    ],
    ids=["int8", "uint8 around its middle", "uint8", "int8 per column", "4 bits"],
)
@pytest.mark.parametrize("form", ["as it is", "turned", "gemm", "gemm turned"])
def test_integers_are_put_back_whatever_reads_them(
    form: str, q: np.ndarray, zero: np.ndarray | None, kept_zero: bool
) -> None:
    scale = np.linspace(0.001, 0.01, 5).astype(np.float32)
    stored, floats = stored_and_float(q, scale, zero, 1)
    assert stored is not None and (stored.zero is not None) == kept_zero and np.array_equal(stored.floats(), floats)
    origin = np.int16(0) if zero is None else zero.astype(np.int16)
    np.testing.assert_array_equal(floats, ((q.astype(np.int16) - origin).astype(np.float32) * scale))
    turned = "turned" in form
    source = model(np.ascontiguousarray(floats.T) if turned else floats, turned=turned, gemm="gemm" in form)
    wanted = run(source, IDS)
    assert put_stored(source.graph, source.graph.initializers["w"], stored) is None
    (back,) = nodes(source.graph, "DequantizeLinear")
    held, zeros = constant(back.inputs[0]), constant(back.inputs[2]) if len(back.inputs) > 2 else None
    assert held is not None and (zeros is not None) == kept_zero
    levels = held.astype(np.int16) - (zeros.astype(np.int16) if zeros is not None else 0)
    np.testing.assert_array_equal(levels, q.astype(np.int16) - origin)
    np.testing.assert_allclose(run(source, IDS), wanted, atol=1e-6)


@pytest.mark.parametrize(("rows", "block", "held"), [(64, 16, 16), (48, 32, 16), (8, 32, 8)])
def test_blocks_that_do_not_divide_become_smaller_ones(rows: int, block: int, held: int) -> None:
    count = -(-rows // block)
    q, scale = integers(-8, 7, (rows, 5)).astype(np.int8), RNG.uniform(-1, 1, (count, 5)).astype(np.float32)
    stored, floats = stored_and_float(q, scale, None, 0, block)
    assert stored is not None
    source = (
        model(floats[:8])
        if rows == 8
        else load(
            [helper.make_node("Gather", ["t", "input_ids"], ["x"]), helper.make_node("MatMul", ["x", "w"], ["y"])],
            {"t": RNG.standard_normal((50, rows)).astype(np.float32), "w": floats},
            ["y"],
            mask=False,
        )
    )
    wanted = run(source, IDS)
    assert put_stored(source.graph, source.graph.initializers["w"], stored) is None
    (back,) = nodes(source.graph, "DequantizeLinear")
    assert back.attributes["block_size"].value == held and back.inputs[0].dtype == ir.DataType.INT4  # type: ignore[union-attr]
    np.testing.assert_allclose(run(source, IDS), wanted, rtol=1e-5, atol=1e-5)


@pytest.mark.parametrize(
    ("stored", "reason"),
    [
        (lambda w: StoredWeight(w, np.ones(8, np.float32), 0), "its scales run along the outputs"),
        (lambda w: StoredWeight(w + 1, np.float32(1) * np.ones(()), 1), "the canonical form merges or splits it"),
        (lambda w: StoredWeight(w[0], np.ones(()), 0), "it is no matrix"),
    ],
)
def test_what_the_graph_cannot_hold_stays_float(stored, reason: str) -> None:
    q = integers(-127, 126).astype(np.int8)
    source = model(q.astype(np.float32))
    assert put_stored(source.graph, source.graph.initializers["w"], stored(q)) == reason
    assert not nodes(source.graph, "DequantizeLinear")


def test_embeddings_are_rows_of_integers_and_become_floats_again() -> None:
    for zero, scale in ((np.uint8(7), np.float32(0.1) * np.ones(())), (None, RNG.random(50).astype(np.float32))):
        q = (
            integers(0, 255, (50, 8)).astype(np.uint8)
            if zero is not None
            else integers(-128, 127, (50, 8)).astype(np.int8)
        )
        stored, floats = stored_and_float(q, scale, zero, 0)
        assert stored is not None
        source = model(np.eye(8, 5, dtype=np.float32))
        source.graph.initializers["table"].const_value = ir.Tensor(floats, name="table")
        wanted = run(source, IDS)
        assert put_stored(source.graph, source.graph.initializers["table"], stored) is None
        assert source.graph.initializers["table"].dtype == ir.DataType.INT8
        np.testing.assert_array_equal(run(source, IDS), wanted)
        assert hold_in_float(source, lambda _: False, rows=True) == ["table"]
        np.testing.assert_array_equal(run(source, IDS), wanted)
        assert np.array_equal(constant(source.graph.initializers["table.float"]), floats)


def test_weights_become_floats_again_where_asked() -> None:
    stored, floats = stored_and_float(integers(0, 255).astype(np.uint8), np.float32(0.1) * np.ones(()), np.uint8(9), 1)
    assert stored is not None
    source = model(floats)
    put_stored(source.graph, source.graph.initializers["w"], stored)
    assert hold_in_float(source, lambda _: False, rows=True) == [] and nodes(source.graph, "DequantizeLinear")
    assert hold_in_float(source, lambda _: True, rows=False) == ["w"] and not nodes(source.graph, "DequantizeLinear")
    assert np.array_equal(constant(source.graph.initializers["w.float"]), floats)


def test_columns_and_notes() -> None:
    q = integers(-128, 127).astype(np.int8)
    stored = StoredWeight(q, np.arange(5, dtype=np.float32), 1, 0, np.arange(5, dtype=np.int8))
    part = stored.columns(slice(1, 3))
    assert np.array_equal(part.floats(), stored.floats()[:, 1:3])
    with pytest.raises(ValueError, match="blocks along the columns"):
        StoredWeight(q, np.ones((8, 1), np.float32), 1, 8).columns(slice(0, 2))
    source = model(stored.floats())
    note_stored(source, "w", stored)
    assert stored_of(source) == {"w": stored}


def test_shapes_that_do_not_fit() -> None:
    assert along(np.array([3.0]), (2, 3), 1).shape == ()
    with pytest.raises(ValueError, match=r"scales of shape \[2, 3\], and blocks of 2 need \[1, 3\]"):
        along(np.ones((2, 3)), (2, 3), 0, 2)
    with pytest.raises(ValueError, match=r"scales of shape \[2\] for 3 channels"):
        along(np.ones(2), (2, 3), 1)


def test_integers_of_more_than_8_bits_stay_float() -> None:
    assert stored_and_float(np.array([[0, 999]]), np.ones((), np.float32), None, 1)[0] is None


@pytest.mark.parametrize(
    ("q", "zero", "sign", "block", "symmetric"),
    [
        (integers(-127, 127), None, 1, 0, True),
        (integers(-127, 127), 3, 1, 0, False),
        (integers(-127, 127), None, -1, 0, False),
        (integers(-127, 127), None, 1, 4, False),
        (integers(-8, 7), None, 1, 8, True),
    ],
    ids=["per column", "zero points", "negative scales", "blocks of int8", "blocks of int4"],
)
def test_a_target_gets_the_integers_that_it_stores(q, zero: int | None, sign: int, block: int, symmetric: bool) -> None:
    size = (8 // block, 5) if block else (5,)
    q = q.copy()
    q[0, 0] = -128 if zero else q[0, 0]
    zeros = None if zero is None else np.full(size, zero, np.int8)
    stored, floats = stored_and_float(
        q.astype(np.int8), np.full(size, sign * 0.01, np.float32), zeros, 0 if block else 1, block
    )
    assert stored is not None
    for target, kept in (("any", True), ("symmetric", symmetric), ("none", False)):
        source = model(floats)
        assert put_stored(source.graph, source.graph.initializers["w"], stored) is None
        wanted = run(source, IDS)
        assert hold_for(source, target, embeddings=True, recurrent=True) == ([] if kept else ["w"])  # type: ignore[arg-type]
        assert bool(nodes(source.graph, "DequantizeLinear")) == kept
        np.testing.assert_allclose(run(source, IDS), wanted, atol=1e-6)


@pytest.mark.parametrize("kept", [True, False])
def test_lstms_keep_their_rows_where_the_target_folds_them(kept: bool) -> None:
    case = lstm()
    source = model_of(case)
    weight = source.graph.initializers[INPUT_WEIGHTS]
    shape = tuple(weight.shape)  # type: ignore[arg-type]
    q, scale = RNG.integers(-127, 128, shape).astype(np.int8), np.full((*shape[:2], 1), 0.01, np.float32)
    stored, floats = stored_and_float(q, scale, None, 2, shape[2])
    weight.const_value = ir.Tensor(floats, name=INPUT_WEIGHTS)
    (wanted, _) = both(source, case)
    assert stored is not None
    halves = StoredWeight(q, np.full((), 0.01, np.float32))
    assert put_stored(source.graph, weight, halves) == "its scales are not those of rows"
    assert put_stored(source.graph, weight, stored) is None and weight.dtype == ir.DataType.INT8
    assert hold_for(source, "any", embeddings=True, recurrent=kept) == ([] if kept else [INPUT_WEIGHTS])
    assert bool(nodes(source.graph, "DequantizeLinear")) == kept
    for outputs in both(source, case):
        assert max(np.abs(a - b).max() for a, b in zip(outputs, wanted, strict=True)) < 1e-5
