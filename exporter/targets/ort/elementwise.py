"""Fuse what stands between the matmuls of a float graph into Headway's kernels, each one pass over memory.

A bias and its activation function become `BiasActivation`. A layer norm with the bias and the residual before it becomes
`SkipLayerNormalization`.

The rewriting is our own, and not rules of `onnxscript.rewriter`. Its rules number the nodes that they make (`node_BiasActivation_0`);
here nodes and values keep the names by which errors and profiles tell layers apart, so that the same model gives the same file. What is
fused depends on who else reads a sum, on which side of an addition is a vector, and on shapes, which in a rule are Python conditions too.
"""

from dataclasses import dataclass

import onnx_ir as ir

from ....kernels.cpu import DOMAIN
from ...graph.edit import (
    attribute_float,
    attribute_int,
    attribute_string,
    dims,
    nodes,
    producer,
    put,
    read_once,
    same_shape,
    take_over,
)

_ACTIVATIONS = {
    ("Gelu", "none"): "gelu",
    ("Gelu", "tanh"): "gelu_tanh",
    ("Relu", "none"): "relu",
    ("Tanh", "none"): "tanh",
}


@dataclass
class Elementwise:
    """How many nodes of each kernel were made."""

    norms: int = 0
    activations: int = 0


def activation_of(node: ir.Node) -> str | None:
    """Return the kernels' name of a node's activation function; None where it is no such node."""
    return (
        _ACTIVATIONS.get((node.op_type, attribute_string(node, "approximate", "none"))) if node.domain == "" else None
    )


def lower_elementwise(model: ir.Model) -> Elementwise:
    """Lower float32 layer norms, GELUs, and other activation functions after a bias, in place."""
    graph = model.graph
    counts = Elementwise()
    for node in nodes(graph, "LayerNormalization"):
        counts.norms += _norm(node)
    for node in nodes(graph, "Gelu", "Relu", "Tanh"):
        counts.activations += _activation(node)
    if counts.norms or counts.activations:
        graph.opset_imports[DOMAIN] = 1
    return counts


def _activation(node: ir.Node) -> bool:
    x, activation = node.inputs[0], activation_of(node)
    if activation is None or x is None or x.dtype != ir.DataType.FLOAT:
        return False
    plain, bias = without_bias(x)
    if bias is None and node.op_type != "Gelu":  # alone, it would be no faster
        return False
    put(node, node.outputs[0], "BiasActivation", [plain, bias], domain=DOMAIN, activation=activation)
    return True


def _norm(node: ir.Node) -> bool:
    total, gamma, beta = (*node.inputs, None)[:3]
    if total is None or total.dtype != ir.DataType.FLOAT or any(v.uses() for v in node.outputs[1:]):
        return False
    shape = dims(total)
    if not shape or attribute_int(node, "axis", -1) not in (-1, len(shape) - 1):
        return False
    if any(v is not None and dims(v) != shape[-1:] for v in (gamma, beta)):
        return False
    x, skip, bias = _addends(total)
    sum_is_read = x is not total and not read_once(total)
    epsilon = attribute_float(node, "epsilon", 1e-5)
    fused = put(
        node, node.outputs[0], "SkipLayerNormalization", [x, skip, gamma, beta, bias], domain=DOMAIN, epsilon=epsilon
    )
    if sum_is_read:  # others read the sum too: the fused node returns it, so that it is computed once
        fused.resize_outputs(2)
        take_over(total, fused.outputs[1])
    return True


def _addends(total: ir.Value) -> tuple[ir.Value, ir.Value | None, ir.Value | None]:
    """Return `x, skip, bias` whose sum `total` is; `total` itself where it is not a sum."""
    x, bias = without_bias(total, alone=False)
    if x is total:
        add = producer(total, "Add")
        sides = add.inputs if add is not None else ()
        if add is None or not all(same_shape(v, total) for v in sides):
            return total, None, None
        left, right = sides
        assert left is not None and right is not None
        for x, skip in ((left, right), (right, left)):
            plain, bias = without_bias(x)
            if bias is not None:
                return plain, skip, bias
        return left, right, None
    add = producer(x, "Add")
    if add is not None and read_once(x) and all(same_shape(v, x) for v in add.inputs):
        return add.inputs[0], add.inputs[1], bias  # type: ignore[return-value]
    return x, None, bias


def without_bias(value: ir.Value, *, alone: bool = True) -> tuple[ir.Value, ir.Value | None]:
    """Return a value before a vector as long as its last axis was added, and that vector.

    With `alone`, a sum that several nodes read is returned as it is, with None.
    """
    add, shape = producer(value, "Add"), dims(value)
    if add is None or not shape or shape[-1] is None or (alone and not read_once(value)):
        return value, None
    for rest, bias in (add.inputs, tuple(reversed(add.inputs))):
        if rest is not None and dims(bias) == shape[-1:] and same_shape(rest, value):
            return rest, bias
    return value, None
