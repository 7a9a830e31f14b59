"""Carry the integers in which a source stores its weights past canonicalization, which knows floats alone.

A weight is a float initializer while the graph is canonicalized. Its integers and scales are noted on the model under its name,
and put back afterwards, code by code, where the canonical graph can hold them. What it cannot hold stays float32, with the reason.
"""

import math
from collections.abc import Callable
from dataclasses import dataclass
from typing import Literal

import numpy as np
import onnx_ir as ir

from ...calibration.rounding import QuantizedMatrix
from .edit import (
    attribute_float,
    attribute_int,
    constant,
    consumers,
    initializer,
    insert,
    nodes,
    producer,
    remove_unused,
    replace,
    scalar,
    take_over,
)
from .quantized import is_lookup, is_recurrent, quantize_embedding, quantize_recurrent, quantize_weight

_NOTED = "headway.stored_weights"
WIDE = "its integers are of more than 8 bits"
_INT8, _INT4 = (-128, 127), (-8, 7)
_SMALLEST_BLOCK = 8


@dataclass(frozen=True)
class StoredWeight:
    """A weight as its source stores it, `(q - zero) scale`: `q` int8 in the shape of the float weight, and float32 scales.

    `scale` is a scalar, a vector along `axis`, or with `block` an array like `q` with `axis` divided by the block's size. `zero`, int8,
    has the shape of `scale`; None where the source's integers less their zero points fit int8 themselves, which `q` are then. Blocks of
    4 bits keep their zero points where the integers less those need more.
    """

    q: np.ndarray
    scale: np.ndarray
    axis: int = 0
    block: int = 0
    zero: np.ndarray | None = None

    @property
    def fits_int4(self) -> bool:
        """Whether 4 bits hold each integer and zero point."""
        return self.q.size > 0 and _within(self.q, _INT4) and (self.zero is None or _within(self.zero, _INT4))

    def transposed(self) -> "StoredWeight":
        """Return the same of the transposed matrix."""
        scale, zero = ((v.T if self.block and v is not None else v) for v in (self.scale, self.zero))
        assert scale is not None
        return StoredWeight(self.q.T, scale, 1 - self.axis, self.block, zero)

    def columns(self, span: slice) -> "StoredWeight":
        """Return the same of some of a matrix's columns."""

        def part(vector: np.ndarray) -> np.ndarray:
            return vector[..., span] if vector.ndim == 2 or (vector.ndim == 1 and self.axis == 1) else vector

        if self.block and self.axis == 1:
            raise ValueError("blocks along the columns of a weight that is divided by columns")
        zero = None if self.zero is None else part(self.zero)
        return StoredWeight(self.q[:, span], part(self.scale), self.axis, self.block, zero)

    def floats(self) -> np.ndarray:
        """Return the weights in float32."""
        levels = self.q.astype(np.int16)
        if self.zero is not None:
            levels = levels - along(self.zero.astype(np.int16), levels.shape, self.axis, self.block)
        return (levels.astype(np.float32) * along(self.scale, levels.shape, self.axis, self.block)).astype(np.float32)


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

    What is stored is None for integers of more than 8 bits. ValueError where the shapes of scale or zero point do not fit.
    """
    scale = np.asarray(scale, np.float32)
    scale = scale.reshape(()) if scale.size == 1 else scale
    given = np.asarray(q).astype(np.int32)
    origin = np.zeros((), np.int32) if zero is None else np.asarray(zero).astype(np.int32)
    levels = given - along(origin, given.shape, axis, block)
    floats = (levels.astype(np.float32) * along(scale, given.shape, axis, block)).astype(np.float32)
    axis, block = axis % max(1, given.ndim), block if scale.ndim else 0
    if block and origin.shape == scale.shape and not _within(levels, _INT4):
        shift = -_INT4[0] if given.min() >= 0 else 0
        if _within(given - shift, _INT4) and _within(origin - shift, _INT4):
            return StoredWeight(
                (given - shift).astype(np.int8), scale, axis, block, (origin - shift).astype(np.int8)
            ), floats
    if _fits(levels):
        return StoredWeight(levels.astype(np.int8), scale, axis, block), floats
    shift = 128 if given.min() >= 0 else 0
    origin = (origin.reshape(()) if origin.size == 1 else origin) - shift
    if not _fits(given - shift) or not _fits(origin) or (origin.ndim and origin.shape != scale.shape):
        return None, floats
    zeros = np.array(np.broadcast_to(origin, scale.shape), np.int8)
    return StoredWeight((given - shift).astype(np.int8), scale, axis, block, zeros), floats


def _fits(levels: np.ndarray) -> bool:
    return levels.size == 0 or _within(levels, _INT8)


def _within(levels: np.ndarray, limits: tuple[int, int]) -> bool:
    return int(levels.min()) >= limits[0] and int(levels.max()) <= limits[1]


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
    if array is not None and array.ndim == 3 and all(is_recurrent(n, weight) for n in readers):
        return _put_recurrent(graph, weight, stored)
    if array is None or array.ndim != 2 or stored.q.ndim != 2:
        return "it is no matrix"
    here = next((s for s in (stored, stored.transposed()) if _equal(s, array)), None)
    if here is None:
        return "the canonical form merges or splits it"
    if all(is_lookup(n, weight) for n in readers):
        return _put_rows(graph, weight, here)
    readers = _turned(graph, weight, _written_apart(graph, weight, readers))
    if any(n.op_type != "MatMul" or n.inputs[1] is not weight or n.inputs[0] is weight for n in readers):
        return "something else than matmuls reads it, too"
    here = here if here.q.shape == tuple(weight.shape or ()) and _equal(here, constant(weight)) else here.transposed()
    scale = _of_columns(here, here.scale)
    if scale is None:
        return "its scales run along the outputs"
    zero = None if here.zero is None else _of_columns(here, here.zero)
    bits = 4 if scale.ndim == 2 and here.fits_int4 else 8
    quantize_weight(graph, weight, QuantizedMatrix(np.ascontiguousarray(here.q), scale, bits, zero))
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
        name, dtype, shape = str(node.outputs[0].name), node.outputs[0].dtype, node.outputs[0].shape
        matrix = weight
        if attribute_int(node, "transB", 0):
            matrix = insert(node, "Transpose", [weight], name=f"{name}.weight", dtype=weight.dtype, perm=[1, 0])
        result = insert(node, "MatMul", [node.inputs[0], matrix], name=f"{name}.product", dtype=dtype, shape=shape)
        if len(node.inputs) > 2 and node.inputs[2] is not None:
            result = insert(node, "Add", [result, node.inputs[2]], name=f"{name}.biased", dtype=dtype, shape=shape)
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


def hold_for(
    model: ir.Model, integers: Literal["any", "symmetric", "none"], *, embeddings: bool, recurrent: bool
) -> list[str]:
    """Hold in float32 what a target cannot store in integers, see `TargetSpec`: `integers`, and those two. Return the names."""

    def unfit(node: ir.Node) -> bool:
        weight, scale = node.inputs[0], constant(node.inputs[1])
        zero = constant(node.inputs[2]) if len(node.inputs) > 2 else None
        in_blocks = "block_size" in node.attributes and weight is not None and weight.dtype == ir.DataType.INT8
        shifted = (
            in_blocks or (zero is not None and bool(zero.any())) or (scale is not None and not bool((scale > 0).all()))
        )
        of_lstm = any(n.op_type == "LSTM" for n in consumers(node.outputs[0]))
        return integers == "none" or (integers == "symmetric" and shifted) or (of_lstm and not recurrent)

    return hold_in_float(model, unfit, rows=not embeddings)


def hold_in_float(model: ir.Model, unfit: Callable[[ir.Node], bool], *, rows: bool) -> list[str]:
    """Hold in float32 the weights behind a DequantizeLinear that is `unfit`, and with `rows` embeddings.

    Exact: each becomes the numbers that its integers stand for. Return their names.
    """
    graph, names = model.graph, []
    for node in nodes(graph, "DequantizeLinear"):
        weight, q, scale = node.inputs[0], constant(node.inputs[0]), constant(node.inputs[1])
        if weight is None or q is None or scale is None or not weight.is_initializer() or not unfit(node):
            continue
        zero = constant(node.inputs[2]) if len(node.inputs) > 2 else None
        _, array = stored_and_float(
            q, scale, zero, attribute_int(node, "axis", 1), attribute_int(node, "block_size", 0)
        )
        replace(node.outputs[0], initializer(graph, f"{weight.name}.float", array))
        names.append(str(weight.name))
    for node in nodes(graph, "Gather") if rows else []:
        table = node.inputs[0]
        if table is not None and table.is_initializer() and table.dtype == ir.DataType.INT8:
            _float_rows(graph, node, table)
            names.append(str(table.name))
    remove_unused(model)
    return names


def _float_rows(graph: ir.Graph, node: ir.Node, table: ir.Value) -> None:
    """Look floats up where `quantize_embedding` made a lookup of integers and of scales."""
    after, offset = consumers(node.outputs[0])[0].outputs[0], 0.0
    following = consumers(after)[0]
    if following.op_type == "Add":
        offset = scalar(following.inputs[1]) or 0.0
        following = consumers(following.outputs[0])[0]
    factor = producer(following.inputs[1], "Gather")
    scales, q = constant(factor.inputs[0]) if factor is not None else None, constant(table)
    assert scales is not None and q is not None, "every lookup of integers looks their scales up"
    array = ((q.astype(np.float32) + np.float32(offset)) * scales).astype(np.float32)
    floats = initializer(graph, f"{table.name}.float", array)
    result = insert(
        node, "Gather", [floats, node.inputs[1]], name=f"{following.outputs[0].name}.rows", dtype=ir.DataType.FLOAT
    )
    replace(following.outputs[0], result)


def _put_recurrent(graph: ir.Graph, weight: ir.Value, stored: StoredWeight) -> str | None:
    """Hold a weight of LSTMs as int8 rows with a scale each."""
    shape = stored.q.shape
    if not _equal(stored, constant(weight)):
        return "the canonical form merges or splits it"
    if stored.axis != 2 or stored.block != shape[2] or stored.zero is not None:
        return "its scales are not those of rows"
    quantize_recurrent(graph, weight, np.ascontiguousarray(stored.q), stored.scale)
    return None


def _put_rows(graph: ir.Graph, weight: ir.Value, stored: StoredWeight) -> str | None:
    """Hold an embedding as int8 rows with a scale each."""
    if stored.block or (stored.scale.ndim and stored.axis != 0):
        return "its scales are not those of rows"
    if stored.zero is not None and stored.zero.ndim:
        return "each of its rows has a zero point of its own"
    rows = np.ascontiguousarray(np.broadcast_to(stored.scale.reshape(-1), (len(stored.q),)).reshape(-1, 1))
    offset = 0 if stored.zero is None else -int(stored.zero)
    quantize_embedding(graph, weight, np.ascontiguousarray(stored.q), rows, offset)
    return None


def _of_columns(stored: StoredWeight, vector: np.ndarray) -> np.ndarray | None:
    """Return scales or zero points `[out]`, or `[in / block, out]` with blocks that divide the inputs; None where these cannot say it."""
    rows, columns = stored.q.shape
    if stored.block == 0:
        if vector.ndim and stored.axis != 1:
            return None
        return np.array(np.broadcast_to(vector, (columns,)), vector.dtype)
    if stored.axis != 0:
        return None
    if stored.block >= rows:
        return np.array(vector if stored.fits_int4 else vector[0])
    block = math.gcd(rows, stored.block)  # a last block that is shorter makes all of them so
    if block < min(_SMALLEST_BLOCK, stored.block):
        return None
    return np.repeat(vector, stored.block // block, axis=0)[: rows // block]
