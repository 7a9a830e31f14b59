"""Activations written out in several operators become one node."""

import math

import numpy as np
import onnx_ir as ir
import pytest
from onnx import helper

from headway.exporter.graph import activations
from headway.exporter.graph.activations import single_node_activations

from tests.support.hand_made import load, run


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


def test_an_erf_that_is_no_gelu_stays() -> None:
    n = helper.make_node
    model = load(
        [n("Gather", ["table", "input_ids"], ["x"]), n("Erf", ["x"], ["out"], name="lonely")],
        {"table": np.ones((50, 2), np.float32)},
        ["out"],
        mask=False,
    )
    single_node_activations(model)
    assert [n.op_type for n in model.graph] == ["Gather", "Erf"]


def test_only_the_rules_of_operators_that_are_there_are_tried() -> None:
    chain = [helper.make_node("Gather", ["table", "input_ids"], ["x0"])]
    chain += [
        helper.make_node("Tanh" if i % 2 else "Mul", [f"x{i}"] * (1 if i % 2 else 2), [f"x{i + 1}"]) for i in range(20)
    ]
    model = load(chain, {"table": np.ones((50, 2), np.float32)}, ["x20"], mask=False)
    assert activations._rules(model.graph) == []
    assert activations._rules(gelu_model(0, tanh=True).graph) and activations._rules(gelu_model(0, tanh=False).graph)
