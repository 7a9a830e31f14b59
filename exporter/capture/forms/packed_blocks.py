"""Read weights packed in blocks: ONNX Runtime's contrib operators MatMulNBits (2, 4 and 8 bits) and GatherBlockQuantized.

Integers, scales and zero points are kept. Where a matmul asks for activations in 8 bits (`accuracy_level` 4), that is left out.
"""

import math

import numpy as np
import onnx_ir as ir

from ...graph.edit import attribute_int
from .base import Form, Reading, drop, finish, given, op, operators

_BITS = (2, 4, 8)
_LARGEST = 1 << 40
_INT8_ACTIVATIONS = 4
ROUNDING = "the rounding of activations to 8 bits in front of matmuls by packed weights"


def read(reading: Reading, found: list[ir.Node]) -> None:
    """Rewrite each to a MatMul or Gather of the floats that its integers stand for."""
    for node in found:
        (_matmul if node.op_type == "MatMulNBits" else _gather)(reading, node)


def _sizes(reading: Reading, node: ir.Node) -> tuple[int, int]:
    """Return bits and block size. SourceError where the operator does not allow them."""
    bits, block = attribute_int(node, "bits", 4), attribute_int(node, "block_size", 128)
    if bits not in _BITS or block < 2 or block & (block - 1) or block > 1 << 16:
        raise reading.refuse(
            node, f"bits {bits} in blocks of {block} are not read: 2, 4 and 8 bits in blocks of a power of 2 are"
        )
    return bits, block


def _matmul(reading: Reading, node: ir.Node) -> None:
    bits, block = _sizes(reading, node)
    rows, columns = attribute_int(node, "K"), attribute_int(node, "N")
    if rows < 1 or columns < 1 or rows * columns > _LARGEST:
        raise reading.refuse(node, f"a weight of {rows} by {columns} is none: the file is damaged")
    blocks = math.ceil(rows / block)
    packed = reading.array(node, 1, "packed weight")
    _check(reading, node, "packed weight", packed, columns * blocks * (block * bits // 8), np.uint8)
    q = unpack(packed, bits).reshape(columns, blocks * block)[:, :rows].T
    scales = reading.array(node, 2, "scales")
    _check(reading, node, "scales", scales, columns * blocks)
    steps = scales.reshape(columns, blocks).T.astype(np.float32)
    zero = _zero_points(reading, node, bits, columns, blocks)
    source = given(node, 1)
    assert source is not None
    weight = _weight(reading, node, str(source.name), q, steps, zero, block)
    if attribute_int(node, "accuracy_level", 0) == _INT8_ACTIVATIONS:
        reading.rounds(ROUNDING)
    product = op(node, "MatMul", [node.inputs[0], weight], "float")
    bias = given(node, 5)
    finish(node, op(node, "Add", [product, bias], "biased") if bias is not None else product)
    drop(reading, node)


def _weight(
    reading: Reading, node: ir.Node, name: str, q: np.ndarray, steps: np.ndarray, zero: np.ndarray, block: int
) -> ir.Value:
    """Return the weight; one whose rows belong to blocks in another order than theirs, or with zero points of floats, as floats."""
    groups = None
    if given(node, 4) is not None:
        groups = reading.array(node, 4, "g_idx").reshape(-1)[: len(q)]
        if len(groups) < len(q) or groups.min() < 0 or groups.max() >= len(steps):
            raise reading.refuse(node, "its g_idx names blocks that are not there: the file is damaged")
    reordered = groups is not None and not np.array_equal(groups, np.arange(len(q)) // block)
    if not reordered and np.issubdtype(zero.dtype, np.integer):
        return reading.weight(node, name, q, steps, zero, axis=0, block=block)
    why = "its blocks are made of inputs in another order" if reordered else "its zero points are no integers"
    reading.note(f"{name}: {why}; held as the float32 values that its integers stand for")
    places = groups if groups is not None else np.arange(len(q)) // block
    return reading.floats(
        name, ((q.astype(np.float32) - zero[places].astype(np.float32)) * steps[places]).astype(np.float32)
    )


def _zero_points(reading: Reading, node: ir.Node, bits: int, columns: int, blocks: int) -> np.ndarray:
    """Return zero points `[blocks, out]`: packed like the weights, or floats; the middle of the range where there are none."""
    if given(node, 3) is None:
        return np.full((blocks, columns), 1 << (bits - 1), np.int16)
    array = reading.array(node, 3, "zero points")
    if array.dtype != np.uint8:
        _check(reading, node, "zero points", array, columns * blocks)
        return array.reshape(columns, blocks).T.astype(np.float32)
    width = math.ceil(blocks * bits / 8)
    _check(reading, node, "zero points", array, columns * width, np.uint8)
    return unpack(array.reshape(columns, width), bits)[:, :blocks].T.astype(np.int16)


def _gather(reading: Reading, node: ir.Node) -> None:
    """Read a lookup of rows whose last axis is divided into blocks."""
    bits, block = _sizes(reading, node)
    data, source = reading.array(node, 0, "data"), given(node, 0)
    assert source is not None
    if (
        attribute_int(node, "gather_axis", 0) != 0
        or data.ndim != 2
        or attribute_int(node, "quantize_axis", 1) not in (1, -1)
    ):
        raise reading.refuse(node, "lookups of rows of a matrix whose columns are divided into blocks are read")
    middle = 0
    if data.dtype == np.uint8:  # packed along the columns, and its zero point is the middle where none is given
        data, middle = unpack(data, bits), 1 << (bits - 1)
    rows, columns = data.shape
    blocks = math.ceil(columns / block)
    scales = reading.array(node, 2, "scales")
    _check(reading, node, "scales", scales, rows * blocks)
    zero = np.full((rows, blocks), middle, np.int16)
    if given(node, 3) is not None:
        array = reading.array(node, 3, "zero points")
        if array.dtype == np.uint8:
            width = math.ceil(blocks * bits / 8)
            _check(reading, node, "zero points", array, rows * width, np.uint8)
            array = unpack(array.reshape(rows, width), bits)[:, :blocks]
        _check(reading, node, "zero points", array, rows * blocks)
        zero = array.reshape(rows, blocks).astype(np.int16)
    steps = scales.reshape(rows, blocks).astype(np.float32)
    table = reading.weight(node, str(source.name), data, steps, zero, axis=1, block=block)
    finish(node, op(node, "Gather", [table, node.inputs[1]], "float", axis=0))
    drop(reading, node)


def unpack(packed: np.ndarray, bits: int) -> np.ndarray:
    """Return the uint8 integers of `bits` bits each, lowest first, that bytes hold: the last axis is as many times as long."""
    if bits == 8:
        return packed
    per_byte = 8 // bits
    shifts = np.arange(per_byte, dtype=np.uint8) * bits
    levels = (packed[..., None] >> shifts) & np.uint8((1 << bits) - 1)
    return levels.reshape(*packed.shape[:-1], packed.shape[-1] * per_byte)


def _check(reading: Reading, node: ir.Node, what: str, array: np.ndarray, size: int, dtype: type | None = None) -> None:
    """Raise SourceError where an input has another size or type than the sizes of the node ask for."""
    if array.size != size or (dtype is not None and array.dtype != dtype):
        raise reading.refuse(
            node,
            f"its {what} has {array.size} entries ({array.dtype}), and its sizes ask for {size}: the file is damaged",
        )


FORM = Form(1, operators("MatMulNBits", "GatherBlockQuantized"), read)
