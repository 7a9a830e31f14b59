"""What one operator of a linear layer takes in, and what it leaves alone."""

import numpy as np
import onnx_ir as ir
import pytest

from headway.exporter.targets.ort.linear_fusion import layer_of, next_layer

FLOAT = ir.TensorType(ir.DataType.FLOAT)


class Graph:
    """A graph of layers `[n, 4]`, made node by node."""

    def __init__(self) -> None:
        self.x = ir.Value(name="x", shape=ir.Shape(["n", 4]), type=FLOAT)
        self.weights: list[ir.Value] = []
        self.nodes: list[ir.Node] = []

    def weight(self, *shape: int) -> ir.Value:
        name = f"w{len(self.weights)}"
        tensor = ir.tensor(np.ones(shape, np.float32), name=name)
        self.weights.append(ir.Value(name=name, shape=ir.Shape(shape), type=FLOAT, const_value=tensor))
        return self.weights[-1]

    def node(self, op_type: str, *inputs: ir.Value, domain: str = "", **attributes: str) -> ir.Value:
        node = ir.node(op_type, inputs, attributes=attributes, domain=domain, name=f"n{len(self.nodes)}")
        out = node.outputs[0]
        out.name, out.shape, out.type = f"v{len(self.nodes)}", ir.Shape(["n", 4]), FLOAT
        self.nodes.append(node)
        return out

    def end(self, *outputs: ir.Value) -> ir.Graph:
        return ir.Graph([self.x], outputs, nodes=self.nodes, initializers=self.weights, opset_imports={"": 20})


@pytest.mark.parametrize("activation", [None, "Gelu", "Relu"])
def test_a_bias_and_an_activation_are_taken_in(activation: str | None) -> None:
    made = Graph()
    matmul = made.node("MatMul", made.x, made.weight(4, 4))
    result = made.node("Add", matmul, bias := made.weight(4))
    result = made.node(activation, result) if activation else result
    made.end(result)
    layer = layer_of(made.nodes[0])
    assert (layer.result, layer.bias, layer.residual) == (result, bias, None)
    assert layer.activation == (activation or "none").lower() and layer.last is made.nodes[-1]


def test_a_residual_is_taken_in_and_a_bias_that_is_missing_is_none() -> None:
    made = Graph()
    matmul = made.node("MatMul", made.x, made.weight(4, 4))
    result = made.node("Add", made.x, matmul)
    made.end(result)
    layer = layer_of(made.nodes[0])
    assert (layer.result, layer.bias, layer.residual, layer.activation) == (result, None, made.x, "none")


def test_one_number_for_all_columns_is_no_bias() -> None:
    made = Graph()
    matmul = made.node("MatMul", made.x, made.weight(4, 4))
    result = made.node("Add", matmul, made.weight(1))
    made.end(result)
    layer = layer_of(made.nodes[0])
    assert (layer.result, layer.bias, layer.residual) == (matmul, None, None)


def test_what_others_read_too_ends_the_layer() -> None:
    made = Graph()
    matmul = made.node("MatMul", made.x, made.weight(4, 4))
    biased = made.node("Add", matmul, bias := made.weight(4))
    made.end(made.node("Relu", biased), made.node("Tanh", biased))
    layer = layer_of(made.nodes[0])
    assert (layer.result, layer.bias, layer.activation) == (biased, bias, "none")


def pair(up: str = "gelu", down: str = "none", *, biases: bool = True, read_twice: bool = False) -> ir.Node | None:
    """Return what is found behind the first of two layers `L(x, weight, bias)`."""
    made = Graph()
    first = made.node("L", made.x, made.weight(4, 4), *([made.weight(4)] if biases else []), activation=up)
    second = made.node("L", first, made.weight(4, 4), made.weight(4), activation=down)
    made.end(second, *([made.node("Tanh", first)] if read_twice else []))
    found = next_layer(made.nodes[0], bias=2)
    assert found in (None, made.nodes[1])
    return found


def test_two_layers_with_an_activation_between_are_found() -> None:
    assert pair() is not None and pair("relu") is not None
    assert pair("none") is None and pair(down="gelu") is None
    assert pair(biases=False) is None and pair(read_twice=True) is None
