"""What stands between the products of a float graph, as Headway's kernels run it: one pass over memory each.

A bias and its activation become `BiasActivation`, a layer norm with the bias and the residual before it `SkipLayerNormalization`.
"""

from dataclasses import dataclass

import onnx_ir as ir

from ....kernels.cpu import DOMAIN
from ...graph.edit import attribute, dims, nodes, producer, put, read_once, same_shape, take_over

_ACTIVATIONS = {
    ("Gelu", "none"): "gelu",
    ("Gelu", "tanh"): "gelu_tanh",
    ("Relu", "none"): "relu",
    ("Tanh", "none"): "tanh",
}


@dataclass
class Elementwise:
    """How many of each kernel were made."""

    norms: int = 0
    activations: int = 0


def activation_of(node: ir.Node) -> str | None:
    """What the kernels call a node's activation; None where it is no such node."""
    return _ACTIVATIONS.get((node.op_type, str(attribute(node, "approximate", "none")))) if node.domain == "" else None


def lower_elementwise(model: ir.Model) -> Elementwise:
    """Lowers float32 layer norms, GELUs, and other activations behind a bias, in place."""
    graph = model.graph
    made = Elementwise()
    for node in nodes(graph, "LayerNormalization"):
        made.norms += _norm(node)
    for node in nodes(graph, "Gelu", "Relu", "Tanh"):
        made.activations += _activation(node)
    if made.norms or made.activations:
        graph.opset_imports[DOMAIN] = 1
    return made


def _activation(node: ir.Node) -> bool:
    x, activation = node.inputs[0], activation_of(node)
    if activation is None or x is None or x.dtype != ir.DataType.FLOAT:
        return False
    plain, bias = without_bias(x)
    if bias is None and node.op_type != "Gelu":  # nothing is gained by itself
        return False
    put(node, node.outputs[0], "BiasActivation", [plain, bias], domain=DOMAIN, activation=activation)
    return True


def _norm(node: ir.Node) -> bool:
    total, gamma, beta = (*node.inputs, None)[:3]
    if total is None or total.dtype != ir.DataType.FLOAT or any(v.uses() for v in node.outputs[1:]):
        return False
    shape = dims(total)
    if not shape or attribute(node, "axis", -1) not in (-1, len(shape) - 1):
        return False
    if any(v is not None and dims(v) != shape[-1:] for v in (gamma, beta)):
        return False
    x, skip, bias = _addends(total)
    kept = x is not total and not read_once(total)
    epsilon = attribute(node, "epsilon", 1e-5)
    made = put(
        node, node.outputs[0], "SkipLayerNormalization", [x, skip, gamma, beta, bias], domain=DOMAIN, epsilon=epsilon
    )
    if kept:  # others read the sum as well: it comes from here, so that it is added up once
        made.resize_outputs(2)
        take_over(total, made.outputs[1])
    return True


def _addends(total: ir.Value) -> tuple[ir.Value, ir.Value | None, ir.Value | None]:
    """`x, skip, bias` that make up a sum; `total` itself where it is none."""
    x, bias = without_bias(total, alone=False)
    if x is total:
        add = producer(total, "Add")
        sides = add.inputs if add is not None else ()
        if add is None or not all(same_shape(v, total) for v in sides):
            return total, None, None
        one, other = sides
        assert one is not None and other is not None
        for x, skip in ((one, other), (other, one)):
            plain, bias = without_bias(x)
            if bias is not None:
                return plain, skip, bias
        return one, other, None
    add = producer(x, "Add")
    if add is not None and read_once(x) and all(same_shape(v, x) for v in add.inputs):
        return add.inputs[0], add.inputs[1], bias  # type: ignore[return-value]
    return x, None, bias


def without_bias(value: ir.Value, *, alone: bool = True) -> tuple[ir.Value, ir.Value | None]:
    """A value before a vector as long as its last axis was added, and that vector; nothing is taken off what others read."""
    add, shape = producer(value, "Add"), dims(value)
    if add is None or not shape or shape[-1] is None or (alone and not read_once(value)):
        return value, None
    for rest, bias in (add.inputs, tuple(reversed(add.inputs))):
        if rest is not None and dims(bias) == shape[-1:] and same_shape(rest, value):
            return rest, bias
    return value, None
