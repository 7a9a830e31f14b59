"""Integers that a checkpoint came with, in the canonical graph."""

import numpy as np
import onnx_ir as ir
import pytest
import torch

from headway.exporter.graph.edit import constant
from headway.exporter.graph.own_integers import hold_integers, stored_matrix
from headway.exporter.graph.torch_graph import TorchGraph
from headway.exporter.source.checkpoints.integers import IntegerWeight

RNG = np.random.default_rng(0)


def weight(bits: int, groups: int, *, zero: int | str | None = None, rows: int = 32, out: int = 6) -> IntegerWeight:
    low = 0 if zero is not None else -(2 ** (bits - 1))
    codes = torch.from_numpy(RNG.integers(low, low + 2**bits, (out, rows)))
    zeros = None
    if zero == "each":
        zeros = torch.from_numpy(RNG.integers(0, 2**bits, (out, groups)))
        zeros[0, 0], zeros[-1, -1] = 0, 2**bits - 1
    elif zero is not None:
        zeros = torch.full((out, groups), zero)
    return IntegerWeight(codes, torch.from_numpy(RNG.uniform(0.1, 1, (out, groups)).astype(np.float32)), bits, zeros)


def graph_of(read: IntegerWeight, *, op: str = "MatMul") -> ir.Model:
    """Return a graph that multiplies by a weight, or looks up its rows."""
    floats = read.float_weight().numpy()
    array = np.ascontiguousarray(floats.T) if op == "MatMul" else floats
    value = ir.Value(
        name="layer.weight",
        shape=ir.Shape(array.shape),
        type=ir.TensorType(ir.DataType.FLOAT),
        const_value=ir.Tensor(array, name="layer.weight"),
    )
    kind = ir.DataType.FLOAT if op == "MatMul" else ir.DataType.INT64
    x = ir.Value(
        name="x", type=ir.TensorType(kind), shape=ir.Shape(["rows", len(array)] if op == "MatMul" else ["rows"])
    )
    node = ir.node(op, [x, value] if op == "MatMul" else [value, x], name="node")
    reader = ir.node("Identity", [node.outputs[0]], name="reader")
    for made, name in ((node, "result"), (reader, "y")):
        made.outputs[0].name, made.outputs[0].type = name, ir.TensorType(ir.DataType.FLOAT)
        made.outputs[0].shape = ir.Shape(["rows", array.shape[1]])
    graph = ir.Graph(
        [x], [reader.outputs[0]], nodes=[node, reader], initializers=[value], opset_imports={"": 23}, name="g"
    )
    return ir.Model(graph, ir_version=10)


@pytest.mark.parametrize(
    ("read", "kind"),
    [
        (weight(8, 1), "int8"),
        (weight(8, 2), "int8 in blocks of 16"),
        (weight(8, 2, zero="each"), "int8 in blocks of 16"),
        (weight(8, 1, zero=128), "int8"),
        (weight(4, 2), "int4 in blocks of 16"),
        (weight(4, 2, zero=8), "int4 in blocks of 16"),
        (weight(4, 2, zero=3), "int4 in blocks of 16"),
        (weight(4, 2, zero=16), "int8 in blocks of 16"),
        (weight(4, 1), "int4 in blocks of 32"),
        (weight(3, 1, rows=20), "int8"),
        (weight(2, 2, zero="each"), "int4 in blocks of 16"),
    ],
)
def test_each_code_comes_back_in_the_smallest_type_that_holds_it(read: IntegerWeight, kind: str) -> None:
    model = graph_of(read)
    feeds = {"x": torch.from_numpy(RNG.normal(size=(3, read.codes.shape[1])).astype(np.float32))}
    before = TorchGraph(model)(feeds)["y"]
    held = hold_integers(model, {"base.layer.weight": lambda: read}, allowed="any")
    assert held.stored == {"base.layer.weight": kind} and not held.as_floats
    matrix, _ = stored_matrix(read)
    assert matrix is not None and np.array_equal(matrix.dequantized(), read.float_weight().numpy().T)
    q = constant(model.graph.initializers["layer.weight"])
    assert q is not None and np.array_equal(q.astype(np.int8), matrix.q)
    assert torch.equal(TorchGraph(model)(feeds)["y"], before)


def test_rows_of_an_embedding_keep_their_integers() -> None:
    read = weight(8, 1)
    model = graph_of(read, op="Gather")
    held = hold_integers(model, {"layer.weight": lambda: read}, allowed="any")
    assert held.stored == {"layer.weight": "int8 rows"}
    rows = TorchGraph(model)({"x": torch.tensor([5, 0])})["y"]
    assert torch.equal(rows, read.float_weight()[[5, 0]])


@pytest.mark.parametrize(
    ("read", "allowed", "reason"),
    [
        (weight(4, 2, zero="each"), "symmetric", "the target takes no zero points"),
        (
            IntegerWeight(torch.ones(6, 32), torch.tensor([[1.0], [-1], [1], [1], [1], [1]]), 8),
            "symmetric",
            "the target takes scales above 0 alone",
        ),
        (weight(8, 2), "symmetric", "the target takes no blocks of 8-bit integers"),
        (weight(8, 1), "none", "the target stores no integers beside float activations"),
        (
            IntegerWeight(torch.ones(6, 32), torch.ones(6, 1), 4, torch.full((6, 1), 0.5)),
            "any",
            "zero points are fractions",
        ),
        (IntegerWeight(torch.full((6, 32), 300), torch.ones(6, 1), 8), "any", "do not fit 8 bits"),
    ],
)
def test_what_cannot_be_held_stays_float_and_is_said(read: IntegerWeight, allowed: str, reason: str) -> None:
    model = graph_of(read)
    held = hold_integers(model, {"layer.weight": lambda: read}, allowed=allowed)  # type: ignore[arg-type]
    assert not held.stored and reason in held.as_floats["layer.weight"]
    assert "0 of 1 quantized weights; 1 as float32, which holds their values exactly (layer.weight:" in held.sentence()
    assert model.graph.initializers["layer.weight"].dtype == ir.DataType.FLOAT


def test_a_weight_that_was_changed_or_is_not_there_keeps_nothing() -> None:
    read = weight(8, 1)
    model = graph_of(read)
    other = weight(8, 1)
    held = hold_integers(model, {"layer.weight": lambda: other, "gone.weight": lambda: read}, allowed="any")
    assert held.as_floats == {"layer.weight": "the canonical graph has it in another form"}
    assert held.absent == ["gone.weight"]
    assert held.sentence().endswith("; 1 not found in it under their names (gone.weight): floats there, or left out")


def test_an_embedding_that_a_tied_head_reads_too_stays_float() -> None:
    read = weight(8, 1)
    model = graph_of(read, op="Gather")
    shared = model.graph.initializers["layer.weight"]
    model.graph.append(ir.node("Transpose", [shared], attributes={"perm": [1, 0]}, name="tied"))
    held = hold_integers(model, {"layer.weight": lambda: read}, allowed="any")
    assert held.as_floats == {"layer.weight": "not only matmuls read it"} and not held.stored
    assert model.graph.initializers["layer.weight"] is shared and shared.dtype == ir.DataType.FLOAT
