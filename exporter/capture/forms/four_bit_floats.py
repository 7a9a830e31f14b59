"""Read weights in 4-bit floats, FP4 or NF4 in blocks with a scale each: ONNX Runtime's contrib operator MatMulBnb4.

No artifact here stores such floats, so that the weights become the float32 values that they stand for, exactly. Source: Dettmers
et al. 2023 (arXiv 2305.14314), appendix E, for the values of NF4.
"""

import math

import numpy as np
import onnx_ir as ir

from ...graph.edit import attribute_int
from .base import Form, Reading, drop, finish, given, op, operators

_NF4 = (
    -1.0,
    -0.6961928009986877,
    -0.5250730514526367,
    -0.39491748809814453,
    -0.28444138169288635,
    -0.18477343022823334,
    -0.09105003625154495,
    0.0,
    0.07958029955625534,
    0.16093020141124725,
    0.24611230194568634,
    0.33791524171829224,
    0.44070982933044434,
    0.5626170039176941,
    0.7229568362236023,
    1.0,
)
_FP4_HALF = (0.0, 0.005208333333333333, 0.6666666666666666, 1.0, 0.3333333333333333, 0.5, 0.16666666666666666, 0.25)
_VALUES = (np.array((*_FP4_HALF, *(-v for v in _FP4_HALF)), np.float32), np.array(_NF4, np.float32))
_LARGEST = 1 << 40


def read(reading: Reading, found: list[ir.Node]) -> None:
    """Rewrite each to a float MatMul."""
    for node in found:
        rows, columns, block = (attribute_int(node, n) for n in ("K", "N", "block_size"))
        kind = attribute_int(node, "quant_type")
        if kind not in (0, 1) or attribute_int(node, "transB", 1) != 1:
            raise reading.refuse(
                node, f"weights of type {kind} are not read: FP4 (0) and NF4 (1), stored per output, are"
            )
        if rows < 1 or columns < 1 or block < 1 or rows * columns > _LARGEST:
            raise reading.refuse(
                node, f"a weight of {rows} by {columns} in blocks of {block} is none: the file is damaged"
            )
        packed, largest = (
            reading.array(node, 1, "packed weight").reshape(-1),
            reading.array(node, 2, "scales").reshape(-1),
        )
        size = rows * columns
        if packed.dtype != np.uint8 or packed.size != math.ceil(size / 2) or largest.size != math.ceil(size / block):
            raise reading.refuse(
                node,
                f"{packed.size} bytes and {largest.size} scales for {rows} by {columns} weights in blocks of {block}: the file is damaged",
            )
        if not np.isfinite(largest).all():
            raise reading.refuse(node, "a scale is not finite: the file is damaged")
        places = np.stack([packed >> 4, packed & 15], axis=1).reshape(-1)[:size]
        steps = np.repeat(largest.astype(np.float32), block)[:size]
        array = (_VALUES[kind][places] * steps).reshape(columns, rows).T
        source = given(node, 1)
        assert source is not None
        reading.note("weights in 4-bit floats are held as the float32 values that they stand for")
        finish(
            node,
            op(
                node, "MatMul", [node.inputs[0], reading.floats(str(source.name), np.ascontiguousarray(array))], "float"
            ),
        )
        drop(reading, node)


FORM = Form(1, operators("MatMulBnb4"), read)
