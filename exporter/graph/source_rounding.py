"""Keep the scales of a source that was trained or calibrated quantized: off the source's graph, onto the canonical one.

Exporters leave `QuantizeLinear` and `DequantizeLinear` wherever a framework had an observer, which hides the layers from
every pattern. So all pairs are removed before the graph is canonicalized. Those of trained weights, and of the inputs of
their matmuls, are put back afterwards with exactly their scales and zero points. Other pairs (inside attention, around
norms, on residuals) stay off: no target here computes those parts in integers.
"""

from dataclasses import dataclass, field

import numpy as np
import onnx_ir as ir

from ...calibration.rounding import QuantizedMatrix, spread
from .edit import (
    attribute_int,
    constant,
    consumers,
    dims,
    initializer,
    insert,
    nodes,
    producer,
    projection_weight,
    remove_unused,
    replace,
)
from .quantized import quantize_weight, round_fixed

_UNSIGNED_OFFSET = 128
_STORED = (ir.DataType.INT8, ir.DataType.UINT8)


@dataclass
class SourceScales:
    """Scales of weights by initializer; scale and zero point of activations by the matmul that reads them."""

    weights: dict[ir.Value, np.ndarray] = field(default_factory=dict)
    activations: dict[ir.Node, tuple[np.ndarray, np.ndarray]] = field(default_factory=dict)


def take_rounding(model: ir.Model) -> SourceScales:
    """Remove every pair, in place: weights become the floats that they stand for, activations are read unrounded."""
    graph = model.graph
    taken = SourceScales()
    _name_written_out(graph)
    for back in nodes(graph, "DequantizeLinear"):
        array, scale, zero = (constant(v) for v in (*back.inputs, None)[:3])
        there = producer(back.inputs[0], "QuantizeLinear")
        if array is not None and scale is not None:
            _take_tensor(graph, back, array, scale, zero, taken)
        elif there is not None:
            source = constant(there.inputs[0])
            step, origin = constant(there.inputs[1]), constant(there.inputs[2]) if len(there.inputs) > 2 else None
            if source is not None and step is not None:  # a float weight rounded at run time
                axis = attribute_int(there, "axis", 1)
                _take_tensor(graph, back, _round(source, step, origin, axis), step, origin, taken)
            elif step is not None and step.ndim == 0 and there.inputs[0] is not None:
                zero = origin if origin is not None else np.array(0, np.uint8)
                for node in consumers(back.outputs[0]):
                    if node.op_type == "MatMul" and node.inputs[0] is back.outputs[0]:
                        taken.activations[node] = (np.array(step, np.float32), np.array(zero))
                _read_unrounded(back.outputs[0], there.inputs[0])
    remove_unused(model)
    taken.activations = {n: s for n, s in taken.activations.items() if projection_weight(n) is not None}
    return taken


def _name_written_out(graph: ir.Graph) -> None:
    """Make one `DequantizeLinear` of `Cast(integers) * scale`, which tools write that only store weights in integers."""
    for node in nodes(graph, "Mul"):
        for cast, other in ((node.inputs[0], node.inputs[1]), (node.inputs[1], node.inputs[0])):
            stored = producer(cast, "Cast")
            integers = stored.inputs[0] if stored is not None else None
            if stored is None or integers is None or not integers.is_initializer() or integers.dtype not in _STORED:
                continue
            if attribute_int(stored, "to") != ir.DataType.FLOAT:
                continue
            scale, rank = constant(other), len(dims(integers) or ())
            if other is None or not other.is_initializer() or scale is None or scale.dtype != np.float32:
                continue
            sizes = [1] * (rank - scale.ndim) + list(scale.shape)
            along = [axis for axis, size in enumerate(sizes) if size > 1]
            if len(sizes) != rank or len(along) > 1:
                continue
            axis = along[0] if along else 0
            vector = initializer(graph, f"{other.name}.vector", scale.reshape(-1 if along else ()))
            name = f"{node.outputs[0].name}.dequantized"
            back = insert(node, "DequantizeLinear", [integers, vector], name=name, dtype=ir.DataType.FLOAT, axis=axis)
            replace(node.outputs[0], back)
            break


def _read_unrounded(rounded: ir.Value, value: ir.Value) -> None:
    """Make the readers read `value`; a graph's output keeps its name."""
    name = rounded.name
    is_output = rounded.is_graph_output()
    replace(rounded, value)
    if is_output:
        rounded.name = f"{name}.rounded"
        value.name = name


def _round(array: np.ndarray, scale: np.ndarray, zero: np.ndarray | None, axis: int) -> np.ndarray:
    """Compute `QuantizeLinear`, per tensor or per channel of `axis`."""
    limits = np.iinfo(zero.dtype if zero is not None else np.uint8)
    origin = _along(zero, axis, array.ndim).astype(np.float64) if zero is not None else 0.0
    return np.clip(np.rint(array / _along(scale, axis, array.ndim)) + origin, limits.min, limits.max).astype(
        limits.dtype
    )


def _along(vector: np.ndarray, axis: int, rank: int) -> np.ndarray:
    """Return a scale or zero point in a shape that broadcasts with an array of `rank` axes: one for all, or per index of `axis`."""
    return vector.reshape([-1 if i == axis % rank else 1 for i in range(rank)]) if vector.ndim else vector


def _take_tensor(
    graph: ir.Graph, back: ir.Node, q: np.ndarray, scale: np.ndarray, zero: np.ndarray | None, taken: SourceScales
) -> None:
    """Make a constant float; note the scales of a weight whose zero point is zero."""
    axis = attribute_int(back, "axis", 1)
    origin = _along(zero.astype(np.float32), axis, q.ndim) if zero is not None else np.zeros((), np.float32)
    array = ((q.astype(np.float32) - origin) * _along(scale, axis, q.ndim)).astype(np.float32)
    there = producer(back.inputs[0], "QuantizeLinear")
    source = there.inputs[0] if there is not None else back.inputs[0]
    name = str(source.name) if source is not None else str(back.outputs[0].name)
    for suffix in ("_quantized", ".quantized", "_q"):
        name = name.removesuffix(suffix)
    weight = ir.Value(
        name=name if name not in graph.initializers else f"{name}.float",
        shape=ir.Shape(array.shape),
        type=ir.TensorType(ir.DataType.FLOAT),
    )
    weight.const_value = ir.Tensor(array, name=weight.name)
    graph.register_initializer(weight)
    replace(back.outputs[0], weight)
    around_zero = (
        zero is None or not (zero.astype(np.int64) - (_UNSIGNED_OFFSET if zero.dtype == np.uint8 else 0)).any()
    )
    if q.ndim == 2 and q.dtype in (np.int8, np.uint8) and around_zero:
        taken.weights[weight] = scale.astype(np.float32)


def put_rounding(model: ir.Model, taken: SourceScales) -> None:
    """Put the scales back onto the canonical graph's matmuls.

    A weight that the canonical form merged, split or shares with lookups stays float.
    """
    graph = model.graph
    for weight, scale in taken.weights.items():
        array = constant(weight)
        readers = consumers(weight)
        is_stored = weight.name in graph.initializers and graph.initializers[str(weight.name)] is weight
        if array is None or not is_stored or not readers:
            continue
        if any(n.op_type != "MatMul" or n.inputs[1] is not weight for n in readers):
            continue
        per_column = np.broadcast_to(scale, (array.shape[1],)) if scale.size in (1, array.shape[1]) else None
        if per_column is None:
            continue
        q = np.rint(array / spread(per_column, len(array)))
        if np.abs(q).max(initial=0) > 128 or not np.allclose(q * per_column[None], array, rtol=1e-5, atol=1e-12):
            continue
        quantize_weight(
            graph, weight, QuantizedMatrix(q.clip(-128, 127).astype(np.int8), np.array(per_column, np.float32))
        )
    round_activations(model, taken)


def round_activations(model: ir.Model, taken: SourceScales) -> None:
    """Put the scales of activations back where matmuls by quantized weights read them, unless they are rounded already."""
    graph = model.graph
    present = set(graph)
    order = {n: i for i, n in enumerate(graph)}
    rounded: dict[tuple[ir.Value, float, int, str], ir.Value] = {}
    for node in sorted((n for n in taken.activations if n in present), key=order.__getitem__):
        scale, zero = taken.activations[node]
        value = node.inputs[0]
        if value is None or value.is_initializer() or producer(node.inputs[1], "DequantizeLinear") is None:
            continue
        if producer(value, "DequantizeLinear") is not None:
            continue
        key = (value, float(scale), int(zero), str(zero.dtype))
        if key not in rounded:
            rounded[key] = round_fixed(graph, node, value, scale, zero)
        node.replace_input_with(0, rounded[key])
