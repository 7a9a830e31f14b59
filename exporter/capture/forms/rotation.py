"""Read rotary position embeddings: ONNX Runtime's contrib RotaryEmbedding, which looks cosines and sines up by position.

Source: Su et al. 2021 (arXiv 2104.09864); ONNX Runtime's contrib operator RotaryEmbedding.
"""

from dataclasses import dataclass

import numpy as np
import onnx_ir as ir

from ...graph.edit import attribute_float, attribute_int, initializer
from .base import Form, Reading, drop, finish, given, integers, op, operators, rank

_INT64 = ir.DataType.INT64


@dataclass(frozen=True)
class Rotation:
    """Angles of a node: cosines and sines by position, constant `[positions, pairs]`, positions, and whether pairs lie side by side."""

    cos: ir.Value
    sin: ir.Value
    positions: ir.Value | None
    interleaved: bool
    pairs: int


def read(reading: Reading, found: list[ir.Node]) -> None:
    """Rewrite each in plain operators. SourceError for tokens of several texts in one row, and for sizes that do not fit."""
    for node in found:
        if attribute_int(node, "is_packed_batching", 0):
            raise reading.refuse(node, "it takes several texts in one row, which is not read")
        if attribute_float(node, "scale", 1.0) != 1.0:
            raise reading.refuse(node, "it scales what it rotates, which is not read")
        rotation = rotation_of(reading, node, 2, 3, given(node, 1), "interleaved")
        part = attribute_int(node, "rotary_embedding_dim", 0)
        if part and part != 2 * rotation.pairs:
            raise reading.refuse(
                node, f"it rotates {part} features by angles of {2 * rotation.pairs}: the file is damaged"
            )
        x = node.inputs[0]
        if x is None or rank(x) not in (3, 4):
            raise reading.refuse(node, "the number of axes of what it rotates is not known")
        if rank(x) == 4:
            finish(node, rotate(reading, node, x, rotation, "rotated", heads_first=True))
        else:
            heads, size = attribute_int(node, "num_heads", 0), 2 * rotation.pairs
            if attribute_int(node, "rotary_embedding_dim", 0) and heads < 1:
                raise reading.refuse(node, "it rotates a part of each head, and does not say how many there are")
            shape = integers(reading, 0, 0, heads, -1) if heads > 0 else integers(reading, 0, 0, -1, size)
            parts = op(node, "Reshape", [x, shape], "of_heads")
            turned = rotate(reading, node, parts, rotation, "rotated")
            finish(node, op(node, "Reshape", [turned, integers(reading, 0, 0, -1)], "joined"))
        drop(reading, node)


def rotation_of(
    reading: Reading, node: ir.Node, cos: int, sin: int, positions: ir.Value | None, interleaved: str
) -> Rotation:
    """Return the rotation by the node's inputs `cos` and `sin`. SourceError where these are no two constants of one shape."""
    arrays = [reading.array(node, i, what) for i, what in ((cos, "cosines"), (sin, "sines"))]
    if arrays[0].ndim != 2 or arrays[0].shape != arrays[1].shape or not arrays[0].size:
        raise reading.refuse(
            node, f"cosines of shape {list(arrays[0].shape)} and sines of {list(arrays[1].shape)}: the file is damaged"
        )
    values = [given(node, i) for i in (cos, sin)]
    assert values[0] is not None and values[1] is not None
    whole = attribute_int(node, interleaved, 0) == 1
    return Rotation(values[0], values[1], positions, whole, arrays[0].shape[1])


def rotate(
    reading: Reading, node: ir.Node, x: ir.Value, rotation: Rotation, name: str, *, heads_first: bool = False
) -> ir.Value:
    """Return `x`, `[batch, sequence, heads, head_dim]`, rotated; with `heads_first` heads are before the sequence.

    Features of a head behind the rotated pairs stay as they are.
    """
    positions = _positions(reading, node, x, rotation.positions, axis=2 if heads_first else 1, name=name)
    axis = integers(reading, 1 if heads_first else 2)
    cos, sin = (
        op(
            node,
            "Unsqueeze",
            [op(node, "Gather", [table, positions], f"{name}.{part}", axis=0), axis],
            f"{name}.{part}s",
        )
        for part, table in (("cos", rotation.cos), ("sin", rotation.sin))
    )
    size, last = 2 * rotation.pairs, integers(reading, -1)

    def part(start: int, end: int, step: int, which: str) -> ir.Value:
        bounds = [integers(reading, start), integers(reading, end), last, integers(reading, step)]
        return op(node, "Slice", [x, *bounds], f"{name}.{which}")

    spans = ((0, size, 2), (1, size, 2)) if rotation.interleaved else ((0, size // 2, 1), (size // 2, size, 1))
    first, second = (part(*span, which) for span, which in zip(spans, ("first", "second"), strict=True))
    products = {
        key: op(node, "Mul", [a, b], f"{name}.{key}")
        for key, a, b in (("fc", first, cos), ("ss", second, sin), ("sc", second, cos), ("fs", first, sin))
    }
    ends = [
        op(node, "Sub", [products["fc"], products["ss"]], f"{name}.real"),
        op(node, "Add", [products["sc"], products["fs"]], f"{name}.imaginary"),
    ]
    if rotation.interleaved:
        apart = [op(node, "Unsqueeze", [end, last], f"{name}.{i}") for i, end in enumerate(ends)]
        pairs = op(node, "Concat", apart, f"{name}.pairs", axis=-1)
        ends = [op(node, "Reshape", [pairs, integers(reading, 0, 0, 0, -1)], f"{name}.in_order")]
    rest = part(size, np.iinfo(np.int64).max, 1, "rest")
    return op(node, "Concat", [*ends, rest], name, axis=-1)


def _positions(
    reading: Reading, node: ir.Node, x: ir.Value, given_positions: ir.Value | None, *, axis: int, name: str
) -> ir.Value:
    """Return positions `[batch, sequence]`, or `[1, sequence]` counted from 0, or from the one number that is given."""
    if given_positions is not None and rank(given_positions) == 2:
        return given_positions
    if given_positions is not None and rank(given_positions) not in (0, 1):
        raise reading.refuse(node, "the number of axes of its positions is not known")
    length = op(node, "Shape", [x], f"{name}.length", dtype=_INT64, start=axis, end=axis + 1)
    scalar = op(node, "Squeeze", [length], f"{name}.count", dtype=_INT64)
    zero, one = (count(reading, i) for i in (0, 1))
    counted = op(node, "Range", [zero, scalar, one], f"{name}.positions", dtype=_INT64)
    if given_positions is not None:
        start = op(node, "Cast", [given_positions], f"{name}.start", dtype=_INT64, to=int(_INT64))
        counted = op(node, "Add", [counted, start], f"{name}.from_start", dtype=_INT64)
    return op(node, "Unsqueeze", [counted, integers(reading, 0)], f"{name}.row", dtype=_INT64)


def count(reading: Reading, value: int) -> ir.Value:
    """Return an int64 scalar initializer."""
    return initializer(reading.graph, f"count.{value}", np.array(value, np.int64))


FORM = Form(5, operators("RotaryEmbedding"), read)
