"""Carry the integers in which a source stores its weights past canonicalization, which knows floats alone.

A weight is a float initializer while the graph is canonicalized. Its integers and scales are noted on the model under its name,
and put back afterwards, code by code, where the canonical graph can hold them. What it cannot hold stays float32, with the reason.
"""

import math
from dataclasses import dataclass

import numpy as np
import onnx_ir as ir

from ...calibration.rounding import QuantizedMatrix
from .edit import attribute_float, attribute_int, constant, consumers, initializer, insert, take_over
from .quantized import look_up, quantize_weight, set_integers

_NOTED = "headway.stored_weights"
WIDE = "its integers less their zero point exceed int8"
_INT8, _INT4 = (-128, 127), (-8, 7)
_SMALLEST_BLOCK = 8


@dataclass(frozen=True)
class StoredWeight:
    """A weight as its source stores it, `(q + offset) scale`: `q` int8 in the shape of the float weight, and float32 scales.

    `scale` is a scalar, a vector along `axis`, or with `block` an array like `q` with `axis` divided by the block's size. `offset` is
    0 where the source's integers less their zero point fit int8 themselves.
    """

    q: np.ndarray
    scale: np.ndarray
    axis: int = 0
    block: int = 0
    offset: int = 0

    @property
    def fits_int4(self) -> bool:
        """Whether 4 bits hold each integer."""
        return self.q.size > 0 and int(self.q.min()) >= _INT4[0] and int(self.q.max()) <= _INT4[1]

    def transposed(self) -> "StoredWeight":
        """Return the same of the transposed matrix."""
        scale = self.scale.T if self.block else self.scale
        return StoredWeight(self.q.T, scale, 1 - self.axis, self.block, self.offset)

    def floats(self) -> np.ndarray:
        """Return the weights in float32."""
        levels = self.q.astype(np.float32) + np.float32(self.offset)
        return (levels * along(self.scale, self.q.shape, self.axis, self.block)).astype(np.float32)


def along(vector: np.ndarray, shape: tuple[int, ...], axis: int, block: int = 0) -> np.ndarray:
    """Return scales or zero points broadcastable with an array of `shape`: for all, per index of `axis`, or per block along it.

    Source: ONNX operator specification, DequantizeLinear-21. ValueError where their shape is none of these.
    """
    if vector.size == 1 and vector.ndim <= 1:
        return vector.reshape(())
    axis %= len(shape)
    if block:
        wanted = tuple(-(-n // block) if i == axis else n for i, n in enumerate(shape))
        if vector.shape != wanted:
            raise ValueError(f"scales of shape {list(vector.shape)}, and blocks of {block} need {list(wanted)}")
        return np.repeat(vector, block, axis=axis).take(range(shape[axis]), axis=axis)
    if vector.shape != (shape[axis],):
        raise ValueError(f"scales of shape {list(vector.shape)} for {shape[axis]} channels")
    return vector.reshape([-1 if i == axis else 1 for i in range(len(shape))])


def stored_and_float(
    q: np.ndarray, scale: np.ndarray, zero: np.ndarray | None, axis: int, block: int = 0
) -> tuple[StoredWeight | None, np.ndarray]:
    """Return a weight as stored, and as float32 by `(q - zero) scale`.

    What is stored is None where the integers less their zero points are spread over more than 8 bits.
    ValueError where the shapes of scale or zero point do not fit.
    """
    scale = np.asarray(scale, np.float32)
    levels = np.asarray(q).astype(np.int32)
    if zero is not None:
        levels = levels - along(np.asarray(zero).astype(np.int32), levels.shape, axis, block)
    floats = (levels.astype(np.float32) * along(scale, levels.shape, axis, block)).astype(np.float32)
    low, high = (int(levels.min()), int(levels.max())) if levels.size else (0, 0)
    offset = max(0, high - _INT8[1]) or min(0, low - _INT8[0])
    if low - offset < _INT8[0] or high - offset > _INT8[1]:
        return None, floats
    axis %= max(1, levels.ndim)
    scale = scale.reshape(()) if scale.size == 1 else scale
    return StoredWeight((levels - offset).astype(np.int8), scale, axis, block if scale.ndim else 0, offset), floats


def note_stored(model: ir.Model, name: str, stored: StoredWeight) -> None:
    """Note under an initializer's name how the source stores it."""
    model.meta.setdefault(_NOTED, {})[name] = stored


def stored_of(model: ir.Model) -> dict[str, StoredWeight]:
    """Return what is noted, by names of initializers; later notes go into the same mapping."""
    noted: dict[str, StoredWeight] = model.meta.setdefault(_NOTED, {})
    return noted


def put_stored(graph: ir.Graph, weight: ir.Value, stored: StoredWeight) -> str | None:
    """Put a weight's own integers into the canonical graph. Return None, or why it stays float32."""
    array, readers = constant(weight), consumers(weight)
    if array is None or array.ndim != 2 or stored.q.ndim != 2:
        return "it is no matrix"
    here = next((s for s in (stored, stored.transposed()) if _equal(s, array)), None)
    if here is None:
        return "the canonical form merges or splits it"
    if all(n.op_type == "Gather" and n.inputs[0] is weight and attribute_int(n, "axis", 0) == 0 for n in readers):
        return _put_rows(graph, weight, here)
    readers = _turned(graph, weight, _written_apart(graph, weight, readers))
    if any(n.op_type != "MatMul" or n.inputs[1] is not weight or n.inputs[0] is weight for n in readers):
        return "something else than matmuls reads it, too"
    if here.offset:
        return WIDE
    here = here if here.q.shape == tuple(weight.shape or ()) and _equal(here, constant(weight)) else here.transposed()
    scale = _scales_of_columns(here)
    if scale is None:
        return "its scales run along the outputs"
    bits = 4 if scale.ndim == 2 and here.fits_int4 else 8
    quantize_weight(graph, weight, QuantizedMatrix(np.ascontiguousarray(here.q), scale, bits))
    return None


def _written_apart(graph: ir.Graph, weight: ir.Value, readers: list[ir.Node]) -> list[ir.Node]:
    """Write each plain Gemm by a weight as MatMul and Add, the weight transposed where it says so; return the weight's readers then."""
    plain = [
        n
        for n in readers
        if n.op_type == "Gemm"
        and n.inputs[1] is weight
        and n.inputs[0] is not weight
        and not attribute_int(n, "transA", 0)
        and attribute_float(n, "alpha", 1.0) == attribute_float(n, "beta", 1.0) == 1.0
    ]
    for node in plain:
        name, known = str(node.outputs[0].name), {"dtype": node.outputs[0].dtype, "shape": node.outputs[0].shape}
        matrix = weight
        if attribute_int(node, "transB", 0):
            matrix = insert(node, "Transpose", [weight], name=f"{name}.weight", dtype=weight.dtype, perm=[1, 0])
        result = insert(node, "MatMul", [node.inputs[0], matrix], name=f"{name}.product", **known)
        if len(node.inputs) > 2 and node.inputs[2] is not None:
            result = insert(node, "Add", [result, node.inputs[2]], name=f"{name}.biased", **known)
        take_over(node.outputs[0], result)
        graph.remove(node, safe=True)
    return consumers(weight)


def _turned(graph: ir.Graph, weight: ir.Value, readers: list[ir.Node]) -> list[ir.Node]:
    """Store a weight that matmuls read transposed alone the way they read it; return the nodes that read it then."""
    through = [r for n in readers if n.op_type == "Transpose" for r in consumers(n.outputs[0])]
    if any(n.op_type != "Transpose" for n in readers) or any(n.op_type != "MatMul" for n in through):
        return readers
    array = constant(weight)
    if array is None or any(n.outputs[0] is r.inputs[0] for n in readers for r in through):
        return readers
    weight.const_value = ir.Tensor(np.ascontiguousarray(array.T), name=weight.name)
    weight.shape = ir.Shape(array.T.shape)
    for node in readers:
        ir.convenience.replace_all_uses_with(node.outputs[0], weight)
        graph.remove(node, safe=True)
    return through


def _equal(stored: StoredWeight, array: np.ndarray | None) -> bool:
    return array is not None and stored.q.shape == array.shape and np.array_equal(stored.floats(), array)


def _put_rows(graph: ir.Graph, weight: ir.Value, stored: StoredWeight) -> str | None:
    """Hold an embedding as int8 rows with a scale each."""
    if stored.block or (stored.scale.ndim and stored.axis != 0):
        return "its scales are not those of rows"
    rows = np.ascontiguousarray(np.broadcast_to(stored.scale.reshape(-1), (len(stored.q),)).reshape(-1, 1))
    scales = initializer(graph, f"{weight.name}_scale", rows)
    lookups = consumers(weight)
    set_integers(weight, np.ascontiguousarray(stored.q), 8)
    for node in lookups:
        look_up(node, scales, stored.offset)
    return None


def _scales_of_columns(stored: StoredWeight) -> np.ndarray | None:
    """Return scales `[out]`, or `[in / block, out]` with blocks that divide the inputs; None where these cannot say the same."""
    rows, columns = stored.q.shape
    if stored.block == 0:
        if stored.scale.ndim and stored.axis != 1:
            return None
        return np.array(np.broadcast_to(stored.scale, (columns,)), np.float32)
    if stored.axis != 0:
        return None
    if stored.block >= rows:
        return np.array(stored.scale if stored.fits_int4 else stored.scale[0], np.float32)
    block = math.gcd(rows, stored.block)  # a last block that is shorter makes all of them so
    if block < min(_SMALLEST_BLOCK, stored.block):
        return None
    return np.repeat(stored.scale, stored.block // block, axis=0)[: rows // block].astype(np.float32)
