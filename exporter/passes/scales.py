"""Fold a scale and a shift behind a projection into it: norms without a norm, where no residual comes between."""

from dataclasses import dataclass

import numpy as np
import onnx_ir as ir

from ..graph.anatomy import Anatomy
from ..graph.edit import bias_add, constant, consumers, is_projection, is_vector, nodes, other_input, read_once, replace
from .base import StructuralPass
from .cuts import set_array


@dataclass
class FoldScales(StructuralPass):
    """Fold `(x W + b) * s + t` into `x (W s) + (b s + t)`. Nothing is done where the weight or the result has other readers.

    The numbers are those of the graph before, up to the rounding of a product. Source: MobileBERT's NoNorm (arXiv 2004.02984).
    """

    def edit(self, model: ir.Model, anatomy: Anatomy) -> dict[str, str]:
        return {name: "scale and shift folded" for name in fold_scales(model.graph)}


def fold_scales(graph: ir.Graph) -> list[str]:
    """Fold in place; return the names of the values that now hold something else."""
    changed = []
    for node in nodes(graph, "MatMul"):
        weight = node.inputs[1]
        if not is_projection(node) or weight is None or not weight.is_initializer() or len(consumers(weight)) > 1:
            continue
        bias = bias_add(node)
        if bias is not None and (not read_once(node.outputs[0]) or len(consumers(_vector(bias))) > 1):
            continue
        result = (bias or node).outputs[0]
        scale = _only_reader(result, "Mul")
        if scale is None:
            continue
        shift = _only_reader(scale.outputs[0], "Add")
        _fold(graph, node, bias, scale, shift)
        changed.append(str(result.name))
    return changed


def _only_reader(value: ir.Value, op_type: str) -> ir.Node | None:
    """Return the node that alone reads a value, if it multiplies or adds a trained vector."""
    readers = consumers(value)
    if not read_once(value) or readers[0].op_type != op_type or not is_vector(other_input(readers[0], value)):
        return None
    return readers[0]


def _vector(node: ir.Node) -> ir.Value:
    return next(v for v in node.inputs if v is not None and is_vector(v))


def _fold(graph: ir.Graph, node: ir.Node, bias: ir.Node | None, scale: ir.Node, shift: ir.Node | None) -> None:
    weight, factor = node.inputs[1], constant(_vector(scale))
    array = constant(weight)
    assert weight is not None and array is not None and factor is not None
    set_array(weight, np.ascontiguousarray(array * factor))
    added = constant(_vector(shift)) if shift is not None else None
    last = (shift or scale).outputs[0]
    if bias is not None:
        vector = _vector(bias)
        given = constant(vector)
        assert given is not None
        set_array(vector, given * factor + (added if added is not None else 0))
        replace(last, bias.outputs[0])
    elif shift is not None:
        # The shift becomes the bias.
        shift.replace_input_with(shift.inputs.index(scale.outputs[0]), node.outputs[0])
    else:
        replace(last, node.outputs[0])
