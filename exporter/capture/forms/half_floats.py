"""Read graphs of float16 and bfloat16: every number is widened to float32, which holds each of them exactly.

The arithmetic becomes that of float32, so that what the file rounds between its operators is left out.
"""

import math

import numpy as np
import onnx_ir as ir

from ...graph.edit import attribute_int
from .base import FLOAT, Form, Reading

_HALF = (ir.DataType.FLOAT16, ir.DataType.BFLOAT16)
_CONSTANTS = (math.sqrt(2), 1 / math.sqrt(2), math.sqrt(2 / math.pi), 0.044715)
"""Numbers of GELU, which a tool rounded to 16 bits where it rounded the weights: they are known by that and read unrounded."""

_TYPED = ("to", "dtype")


def read(reading: Reading, found: list[ir.Node]) -> None:
    """Widen all tensors, and what nodes say of types, in place; a graph of float32 stays as it is."""
    kinds = {v.const_value.dtype for v in reading.graph.initializers.values() if v.const_value is not None}
    kinds |= {t.dtype for n in reading.graph.all_nodes() for t in _tensors(n)}
    kinds |= {ir.DataType(attribute_int(n, "to")) for n in reading.graph.all_nodes() if n.op_type == "Cast"}
    kinds &= set(_HALF)
    if not kinds:
        return
    sizes = _widen_weights(reading.graph)
    for node in reading.graph.all_nodes():
        _widen_node(node)
    for value in (*reading.graph.inputs, *reading.graph.outputs):
        _widen_type(value)
    if not sizes:  # a cast to and fro, or a number: rounding at run time alone
        reading.rounds("casts to 16-bit floats")
        return
    name = " and ".join(sorted("float16" if k == ir.DataType.FLOAT16 else "bfloat16" for k in kinds))
    reading.rounds(f"the rounding of {name} between operators")
    reading.note(
        f"{sizes} {name} weights are read as the same numbers in float32"
        + (
            "; headway compress --quantize float16 stores them in their own size without loss"
            if name == "float16"
            else ""
        )
    )


def _widen_weights(graph: ir.Graph) -> int:
    """Widen initializers; return how many hold more than one number."""
    wide = 0
    for value in graph.initializers.values():
        if value.const_value is not None and value.const_value.dtype in _HALF:
            value.const_value = _widened(value.const_value, str(value.name))
            wide += value.const_value.size > 1
        _widen_type(value)
    return wide


def _widen_node(node: ir.Node) -> None:
    for out in node.outputs:
        _widen_type(out)
    for name, attribute in list(node.attributes.items()):
        if attribute.type == ir.AttributeType.TENSOR and attribute.value.dtype in _HALF:
            node.attributes[name] = ir.AttrTensor(name, _widened(attribute.value, name))
        elif name in _TYPED and attribute.type == ir.AttributeType.INT and attribute.value in _HALF:
            node.attributes[name] = ir.AttrInt64(name, int(FLOAT))


def _widened(tensor: ir.TensorProtocol, name: str) -> ir.Tensor:
    """Return a tensor in float32: the same numbers, and a number of GELU as it was before it was rounded."""
    array = tensor.numpy()
    if array.size == 1:
        known = next((c for c in _CONSTANTS if np.array(c).astype(array.dtype) == array.reshape(())), None)
        if known is not None:
            return ir.Tensor(np.full(array.shape, known, np.float32), name=name)
    return ir.Tensor(array.astype(np.float32), name=name)


def _tensors(node: ir.Node) -> list[ir.TensorProtocol]:
    return [a.value for a in node.attributes.values() if a.type == ir.AttributeType.TENSOR]


def _widen_type(value: ir.Value) -> None:
    if value.dtype in _HALF:
        value.type = ir.TensorType(FLOAT)


FORM = Form(3, frozenset(), read, always=True)
