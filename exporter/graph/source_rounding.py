"""Keep the scales of a source that was trained or calibrated quantized: off the source's graph, onto the canonical one.

Exporters leave `QuantizeLinear` and `DequantizeLinear` wherever a framework had an observer, which hides the layers from
every pattern. So all pairs are removed before the graph is canonicalized. Those of trained weights, and of the inputs of
their matmuls, are put back afterwards with exactly their integers, scales and zero points. Other pairs (inside attention, around
norms, on residuals) stay off: no target here computes those parts in integers.
"""

import warnings
from dataclasses import dataclass, field

import numpy as np
import onnx_ir as ir

from ...errors import HeadwayWarning, SourceError
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
from .quantized import is_recurrent, quantized_weight_of, round_fixed
from .stored_weights import WIDE, StoredWeight, along, put_stored, stored_and_float, stored_of

_STORED = (ir.DataType.INT8, ir.DataType.UINT8)


@dataclass
class SourceScales:
    """Weights as stored, by initializer; scale and zero point of activations by the matmul that reads them.

    `wide`: names of weights whose integers less the zero point exceed int8.
    """

    weights: dict[ir.Value, StoredWeight] = field(default_factory=dict)
    activations: dict[ir.Node, tuple[np.ndarray, np.ndarray]] = field(default_factory=dict)
    wide: list[str] = field(default_factory=list)


def take_rounding(model: ir.Model) -> SourceScales:
    """Remove every pair, in place: weights become the floats that they stand for, activations are read unrounded."""
    graph = model.graph
    noted = stored_of(model)
    taken = SourceScales({graph.initializers[n]: stored for n, stored in noted.items() if n in graph.initializers})
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
                axis, block = attribute_int(there, "axis", 1), attribute_int(there, "block_size", 0)
                _take_tensor(graph, back, _round(source, step, origin, axis, block), step, origin, taken)
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
            long = [axis for axis, size in enumerate(sizes) if size > 1]
            if len(sizes) != rank or len(long) > 1:
                continue
            axis = long[0] if long else 0
            vector = initializer(graph, f"{other.name}.vector", scale.reshape(-1 if long else ()))
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


def _round(array: np.ndarray, scale: np.ndarray, zero: np.ndarray | None, axis: int, block: int) -> np.ndarray:
    """Compute `QuantizeLinear`, per tensor, per channel of `axis` or per block of it."""
    limits = np.iinfo(zero.dtype if zero is not None else np.uint8)
    origin = along(zero, array.shape, axis, block).astype(np.float64) if zero is not None else 0.0
    steps = along(scale, array.shape, axis, block)
    return np.clip(np.rint(array / steps) + origin, limits.min, limits.max).astype(limits.dtype)


def _take_tensor(
    graph: ir.Graph, back: ir.Node, q: np.ndarray, scale: np.ndarray, zero: np.ndarray | None, taken: SourceScales
) -> None:
    """Make a constant float; note how a matrix is stored. SourceError where its scales do not fit it."""
    axis, block = attribute_int(back, "axis", 1), attribute_int(back, "block_size", 0)
    try:
        stored, array = stored_and_float(q, scale, zero, axis, block)
    except ValueError as error:
        raise SourceError(
            f"node {back.name or back.outputs[0].name!r} (DequantizeLinear): {error}: the file is damaged"
        ) from error
    there = producer(back.inputs[0], "QuantizeLinear")
    source = there.inputs[0] if there is not None else back.inputs[0]
    name = str(source.name) if source is not None else str(back.outputs[0].name)
    for suffix in ("_quantized", ".quantized", "_q"):
        name = name.removesuffix(suffix)
    if there is not None and source is not None and source.is_initializer() and consumers(source) == [there]:
        source.name = f"{name}.unrounded"  # nothing reads it any more: the rounded weight has its name
    weight = ir.Value(
        name=name if name not in graph.initializers else f"{name}.float",
        shape=ir.Shape(array.shape),
        type=ir.TensorType(ir.DataType.FLOAT),
    )
    weight.const_value = ir.Tensor(array, name=weight.name)
    graph.register_initializer(weight)
    replace(back.outputs[0], weight)
    if q.ndim == 2 or (q.ndim == 3 and all(is_recurrent(n, weight) for n in consumers(weight))):
        if stored is None:
            taken.wide.append(str(weight.name))
        else:
            taken.weights[weight] = stored


def drop_inner_rounding(model: ir.Model) -> int:
    """Remove the pairs of activations that `take_rounding` would not keep: all but those in front of matmuls by trained weights.

    Return how many there were.
    """
    dropped = 0
    for back in nodes(model.graph, "DequantizeLinear"):
        there = producer(back.inputs[0], "QuantizeLinear")
        value = there.inputs[0] if there is not None else None
        if value is None or constant(value) is not None:
            continue
        rounded = back.outputs[0]
        kept = [
            n for n in consumers(rounded) if n.op_type == "MatMul" and n.inputs[0] is rounded and projection_weight(n)
        ]
        if kept and len(kept) == len(consumers(rounded)) and not rounded.is_graph_output():
            continue
        _read_unrounded(rounded, value)
        for node in kept:
            node.replace_input_with(0, rounded)
        dropped += 1
    remove_unused(model)
    return dropped


def put_rounding(model: ir.Model, taken: SourceScales) -> None:
    """Put integers and scales back onto the canonical graph's matmuls and lookups.

    A weight that the canonical form merged or split, or shares, stays float32: a HeadwayWarning says which and why.
    """
    graph = model.graph
    left = dict.fromkeys(taken.wide, WIDE)
    for weight, stored in taken.weights.items():
        is_stored = weight.name in graph.initializers and graph.initializers[str(weight.name)] is weight
        reason = put_stored(graph, weight, stored) if is_stored and consumers(weight) else None
        if reason is not None:
            left[str(weight.name)] = reason
    _say_what_is_float(left)
    unrounded = round_activations(model, taken)
    if unrounded and taken.weights:
        warnings.warn(
            f"{unrounded[0]}{_and_more(unrounded)}: the source rounds the input of this matmul, and the artifact does not, since it "
            "computes it in float32",
            HeadwayWarning,
            stacklevel=2,
        )


def round_activations(model: ir.Model, taken: SourceScales) -> list[str]:
    """Put the scales of activations back where matmuls by quantized weights read them, unless they are rounded already.

    Return the names of the matmuls that read theirs unrounded: those by weights in float32, in blocks, or with zero points.
    """
    graph, unrounded = model.graph, []
    present = set(graph)
    order = {n: i for i, n in enumerate(graph)}
    rounded: dict[tuple[ir.Value, float, int, str], ir.Value] = {}
    for node in sorted((n for n in taken.activations if n in present), key=order.__getitem__):
        scale, zero = taken.activations[node]
        value = node.inputs[0]
        back = producer(node.inputs[1], "DequantizeLinear")
        if value is None or value.is_initializer() or producer(value, "DequantizeLinear") is not None:
            continue
        if back is None or quantized_weight_of(node) is None or "block_size" in back.attributes:
            unrounded.append(str(node.name))
            continue
        key = (value, float(scale), int(zero), str(zero.dtype))
        if key not in rounded:
            rounded[key] = round_fixed(graph, node, value, scale, zero)
        node.replace_input_with(0, rounded[key])
    return unrounded


def _and_more(names: list[str]) -> str:
    return f" and {len(names) - 1} more" if len(names) > 1 else ""


def _say_what_is_float(left: dict[str, str]) -> None:
    """Warn once for each reason why weights of the source are held in float32, with the number of them and the first."""
    for reason in dict.fromkeys(left.values()):
        names = [name for name, why in left.items() if why == reason]
        warnings.warn(
            f"{names[0]}{_and_more(names)}: stored as integers in the source and held as the float32 values that they stand for: {reason}",
            HeadwayWarning,
            stacklevel=2,
        )
