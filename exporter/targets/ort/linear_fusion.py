"""Find what one operator of a linear layer takes in: the bias, the activation function and the residual around a matmul.

The operators of int8 and of bfloat16 weights include the same neighbors, each only where nothing else reads between them.
"""

from dataclasses import dataclass

import onnx_ir as ir

from ...graph.edit import attribute_string, bias_add, bias_of, consumers, dims, other_input, read_once, same_shape
from .elementwise import activation_of


@dataclass(frozen=True)
class Layer:
    """What follows a matmul up to `result`, which takes its place; None where there is no such neighbor."""

    result: ir.Value
    bias: ir.Value | None
    activation: str
    residual: ir.Value | None

    @property
    def last(self) -> ir.Node:
        """The node that computes the result."""
        node = self.result.producer()
        assert node is not None
        return node


def layer_of(matmul: ir.Node) -> Layer:
    """Return the layer that a matmul begins: its bias, then an activation function or a residual."""
    result, bias, residual = matmul.outputs[0], None, None
    add = bias_add(matmul)
    if add is not None and read_once(result) and _is_as_wide(bias_of(add), result):
        bias, result = bias_of(add), add.outputs[0]
    following = consumers(result)
    if read_once(result) and (activation := activation_of(following[0])) is not None:
        return Layer(following[0].outputs[0], bias, activation, None)
    if read_once(result) and following[0].op_type == "Add" and same_shape(other_input(following[0], result), result):
        residual = other_input(following[0], result)
        result = following[0].outputs[0]
    return Layer(result, bias, "none", residual)


def _is_as_wide(bias: ir.Value | None, result: ir.Value) -> bool:
    """Return whether a vector has a number for each column of a matmul's result; one number for all of them is no bias."""
    columns, entries = (dims(value) for value in (result, bias))
    return not columns or not entries or not isinstance(columns[-1], int) or columns[-1] == entries[0]


def next_layer(up: ir.Node, *, bias: int) -> ir.Node | None:
    """Return the layer of the same operator behind `up`, with nothing but an activation function between; or None.

    Both need a bias, which is the input number `bias`; the first one's residual has to be absent.
    """
    between = up.outputs[0]
    readers = consumers(between)
    if attribute_string(up, "activation") == "none" or not read_once(between) or readers[0].op_type != up.op_type:
        return None
    down = readers[0]
    if down.inputs[0] is not between or attribute_string(down, "activation") != "none" or _input(up, bias + 1):
        return None
    return down if _input(up, bias) is not None and _input(down, bias) is not None else None


def _input(node: ir.Node, index: int) -> ir.Value | None:
    return node.inputs[index] if index < len(node.inputs) else None
