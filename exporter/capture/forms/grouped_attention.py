"""Read ONNX Runtime's contrib GroupQueryAttention where it has no cache: groups of queries that share keys and values.

It counts the tokens of each text, rotates queries and keys where asked, and orders the tokens unless told otherwise.
"""

import numpy as np
import onnx_ir as ir

from ...graph.edit import attribute_int, producer, scalar
from .base import Form, Reading, drop, finish, given, integers, op, operators, source_of
from .fused_attention import PARTS, mask_bias, order_bias, width_of, write_out
from .rotation import Rotation, count, rotate, rotation_of

_LOW = float(np.finfo(np.float32).min)
_CACHES = (3, 4)
_UNREAD = {
    11: "a sink of attention",
    12: "scales of a cache",
    13: "scales of a cache",
    14: "a norm of queries",
    15: "a norm of keys",
    16: "lengths of queries",
}


def read(reading: Reading, found: list[ir.Node]) -> None:
    """Rewrite all. SourceError for a cache, a window, and other additions that are not read."""
    biases: dict[ir.Value, ir.Value] = {}
    for node in found:
        heads, kv_heads = _heads(reading, node)
        parts, size = _parts(reading, node, heads, kv_heads)
        if attribute_int(node, "do_rotary", 0):
            rotation = rotation_of(reading, node, 7, 8, _start(reading, node), "rotary_interleaved")
            parts = [
                *(_rotated(reading, node, x, h, rotation) for x, h in zip(parts[:2], (heads, kv_heads), strict=True)),
                parts[2],
            ]
        terms = [bias] if (bias := given(node, 10)) is not None else []
        if attribute_int(node, "causal", 1):
            terms.append(order_bias(reading, node))
        terms.append(_counted(reading, node, biases))
        finish(node, write_out(reading, node, parts, heads, terms, size, kv_heads))
        drop(reading, node)


def _start(reading: Reading, node: ir.Node) -> ir.Value | None:
    """Return the position of the first token, from which the operator counts without a cache, whatever the other positions are."""
    positions = given(node, 9)
    if positions is None:
        return None
    flat = op(node, "Reshape", [positions, integers(reading, -1)], "positions.flat", dtype=ir.DataType.INT64)
    start = op(node, "Gather", [flat, count(reading, 0)], "positions.first", dtype=ir.DataType.INT64, axis=0)
    start.shape = ir.Shape([])
    return start


def _heads(reading: Reading, node: ir.Node) -> tuple[int, int]:
    """Return heads of queries, and of keys and values."""
    if any(given(node, i) is not None for i in _CACHES) or any(
        o.uses() or o.is_graph_output() for o in node.outputs[1:]
    ):
        raise reading.refuse(node, "it has a cache of keys and values, as decoders have: encoders alone are read")
    for index, what in _UNREAD.items():
        if given(node, index) is not None:
            raise reading.refuse(node, f"it has {what}, which is not read")
    if attribute_int(node, "local_window_size", -1) != -1:
        raise reading.refuse(node, "each token attends to a window of others, which is not read here")
    for name in ("softcap", "smooth_softmax"):
        if name in node.attributes and node.attributes[name].value not in (0, 0.0, -1):
            raise reading.refuse(node, f"it has {name} = {node.attributes[name].value}, which is not read")
    heads, kv_heads = attribute_int(node, "num_heads"), attribute_int(node, "kv_num_heads")
    if heads < 1 or kv_heads < 1 or heads % kv_heads:
        raise reading.refuse(node, f"it has {heads} heads in {kv_heads} groups: the file is damaged")
    return heads, kv_heads


def _parts(reading: Reading, node: ir.Node, heads: int, kv_heads: int) -> tuple[list[ir.Value], int]:
    """Return queries, keys and values `[batch, sequence, features]`, and the size of a head."""
    query, key, value = (given(node, i) for i in range(3))
    width = width_of(query)
    packed = key is None and value is None
    shares = heads + 2 * kv_heads if packed else heads
    if query is None or width is None or width % shares or (key is None) != (value is None):
        raise reading.refuse(node, f"queries of {width} features do not hold {shares} heads: the file is damaged")
    size = width // shares
    if not packed:
        assert key is not None and value is not None
        return [query, key, value], size
    ends = [0, heads * size, (heads + kv_heads) * size, width]
    last = integers(reading, -1)
    return [
        op(node, "Slice", [query, integers(reading, a), integers(reading, b), last], f"{name}.unpacked")
        for name, a, b in zip(PARTS, ends, ends[1:], strict=False)
    ], size


def _rotated(reading: Reading, node: ir.Node, x: ir.Value, heads: int, rotation: Rotation) -> ir.Value:
    apart = op(node, "Reshape", [x, integers(reading, 0, 0, heads, -1)], f"{x.name}.of_heads")
    turned = rotate(reading, node, apart, rotation, f"{x.name}.rotated")
    return op(node, "Reshape", [turned, integers(reading, 0, 0, -1)], f"{x.name}.joined")


def _counted(reading: Reading, node: ir.Node, biases: dict[ir.Value, ir.Value]) -> ir.Value:
    """Return the additive bias of keys behind the end of a text, whose length less 1 is the sum of a mask less 1."""
    less = producer(source_of(given(node, 5)), "Sub")
    count = producer(source_of(less.inputs[0]), "ReduceSum") if less is not None else None
    if less is None or count is None or scalar(less.inputs[1]) != 1:
        raise reading.refuse(node, "the lengths of its texts are not counted from a mask, which alone is read")
    mask = source_of(count.inputs[0])
    assert mask is not None
    if mask not in biases:
        biases[mask] = mask_bias(reading, node, mask, _LOW)
    return biases[mask]


FORM = Form(5, operators("GroupQueryAttention"), read)
