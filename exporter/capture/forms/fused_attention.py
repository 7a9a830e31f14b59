"""Read attention that was fused with its projections or without them: ONNX Runtime's contrib Attention and MultiHeadAttention.

Merged weights of query, key and value are divided, integers included; masks become one additive bias, and so does an order of the
tokens. A cache of keys and values, which decoders have, is refused.
"""

import math
from collections.abc import Callable, Sequence

import numpy as np
import onnx_ir as ir

from ...graph.edit import attribute_float, attribute_int, attribute_ints, constant, dims, optional_float, producer
from ...graph.stored_weights import note_stored, stored_of
from .base import CONTRIB, Form, Reading, drop, finish, given, integers, number, op, operators, rank, source_of
from .rotation import count

PARTS = ("query", "key", "value")
_MASKED = -10000.0
_DECODERS = (
    "DecoderMaskedMultiHeadAttention",
    "DecoderMaskedSelfAttention",
    "DecoderAttention",
    "SparseAttention",
    "PagedAttention",
)
_OTHERS = (
    "PackedAttention",
    "PackedMultiHeadAttention",
    "LongformerAttention",
    "QOrderedAttention",
    "QOrderedLongformerAttention",
)


def read(reading: Reading, found: list[ir.Node]) -> None:
    """Rewrite all nodes of this form. SourceError for attention that an encoder of text does not have."""
    masks: dict[tuple[ir.Value, float], ir.Value] = {}
    for node in found:
        if node.op_type in _DECODERS:
            raise reading.refuse(
                node, "an attention of decoders, with a cache of keys and values: encoders alone are read"
            )
        if node.op_type in _OTHERS:
            raise reading.refuse(
                node,
                "a form of attention that is not read: give the model as it was before that runtime's optimizer ran",
            )
        finish(node, _READERS[node.op_type](reading, node, masks))
        drop(reading, node)


def _check_encoder(reading: Reading, node: ir.Node, caches: tuple[int, ...]) -> int:
    """Return the number of heads. SourceError for a cache, or rotation inside."""
    if any(given(node, i) is not None for i in caches):
        raise reading.refuse(node, "it has a cache of keys and values, as decoders have: encoders alone are read")
    if attribute_int(node, "do_rotary", 0):
        raise reading.refuse(
            node, "it rotates queries and keys by angles that are not in the file: RotaryEmbedding before it is read"
        )
    heads = attribute_int(node, "num_heads")
    if heads < 1:
        raise reading.refuse(node, f"it has {heads} heads: the file is damaged")
    return heads


def _merged(reading: Reading, node: ir.Node, masks: dict[tuple[ir.Value, float], ir.Value]) -> ir.Value:
    """Read `Attention`: input, weights `[in, q + k + v]`, bias, mask, cache, additive bias."""
    heads = _check_encoder(reading, node, (4, 6))
    source, whole = given(node, 1), reading.array(node, 1, "weight")
    assert source is not None
    widths = attribute_ints(node, "qkv_hidden_sizes", [whole.shape[-1] // 3] * 3)
    if (
        whole.ndim != 2
        or len(widths) != 3
        or sum(widths) != whole.shape[1]
        or widths[0] != widths[1]
        or min(widths) < 1
    ):
        raise reading.refuse(
            node, f"a weight of shape {list(whole.shape)} does not hold {widths} columns: the file is damaged"
        )
    bias = None if given(node, 2) is None else reading.array(node, 2, "bias")
    if bias is not None and bias.shape != (sum(widths),):
        raise reading.refuse(node, f"a bias of shape {list(bias.shape)} for {sum(widths)} columns: the file is damaged")
    stored, start, projected = stored_of(reading.model).get(str(source.name)), 0, []
    for part, width in zip(PARTS, widths, strict=True):
        span = slice(start, start + width)
        name = f"{source.name}.{part}"
        if name not in reading.graph.initializers:
            reading.floats(name, np.ascontiguousarray(whole[:, span]))
            if stored is not None:
                note_stored(reading.model, name, stored.columns(span))
        x = op(node, "MatMul", [node.inputs[0], reading.graph.initializers[name]], part)
        if bias is not None:
            vector = reading.floats(f"{given(node, 2).name}.{part}", np.ascontiguousarray(bias[span]))  # type: ignore[union-attr]
            x = op(node, "Add", [x, vector], f"{part}.biased")
        projected.append(x)
        start += width
    _check_heads(reading, node, heads, (widths[0], widths[2]))
    terms = _terms(reading, node, masks, given(node, 3), given(node, 5))
    return write_out(reading, node, projected, heads, terms, widths[0] // heads)


def _check_heads(reading: Reading, node: ir.Node, heads: int, widths: tuple[int, ...]) -> None:
    if any(width % heads for width in widths):
        raise reading.refuse(node, f"{heads} heads do not divide {widths} columns: the file is damaged")


def _separate(reading: Reading, node: ir.Node, masks: dict[tuple[ir.Value, float], ir.Value]) -> ir.Value:
    """Read `MultiHeadAttention`: query, key, value `[batch, sequence, hidden]`, bias, mask of keys, additive bias, cache."""
    heads = _check_encoder(reading, node, (6, 7, 8, 9))
    parts = [given(node, i) for i in range(3)]
    if parts[1:] == [None, None] and rank(parts[0]) == 5:
        parts = [*_unpacked(reading, node, parts[0], PARTS)]
    elif parts[2] is None and rank(parts[1]) == 5:
        parts = [parts[0], *_unpacked(reading, node, parts[1], PARTS[1:])]
    if any(part is None or rank(part) not in (3, None) for part in parts):
        raise reading.refuse(node, "its queries, keys and values are neither 3-D, nor packed into one 5-D input")
    bias, hidden = given(node, 3), None
    if bias is not None:
        whole = reading.array(node, 3, "bias")
        if whole.ndim != 1 or whole.size % 3:
            raise reading.refuse(
                node, f"a bias of shape {list(whole.shape)} is none of three parts: the file is damaged"
            )
        hidden = whole.size // 3
        for i, part in enumerate(PARTS):
            vector = reading.floats(f"{bias.name}.{part}", np.ascontiguousarray(whole[i * hidden : (i + 1) * hidden]))
            parts[i] = op(node, "Add", [parts[i], vector], f"{part}.biased")
    hidden = hidden or width_of(parts[0])
    if hidden is None and optional_float(node, "scale") is None:
        raise reading.refuse(node, "the size of its heads is not known")
    if hidden is not None:
        _check_heads(reading, node, heads, (hidden,))
    terms = _terms(reading, node, masks, given(node, 4), given(node, 5))
    return write_out(reading, node, [p for p in parts if p is not None], heads, terms, (hidden or heads) // heads)


def _unpacked(reading: Reading, node: ir.Node, value: ir.Value | None, names: Sequence[str]) -> list[ir.Value]:
    """Return what lies packed in `[batch, sequence, heads, parts, head_dim]`, each `[batch, sequence, hidden]`."""
    assert value is not None
    shape = dims(value) or ()
    if len(shape) != 5 or shape[3] not in (None, len(names)):
        raise reading.refuse(node, f"{len(names)} parts in an input of shape {list(shape)}: the file is damaged")
    size = integers(reading, 0, 0, -1)
    parts = []
    for i, name in enumerate(names):
        heads = op(node, "Gather", [value, count(reading, i)], f"{name}.unpacked", axis=3)
        parts.append(op(node, "Reshape", [heads, size], f"{name}.whole"))
        if None not in (shape[2], shape[4]):
            parts[-1].shape = ir.Shape([shape[0], shape[1], int(shape[2] or 0) * int(shape[4] or 0)])
    return parts


def width_of(value: ir.Value | None) -> int | None:
    """Return the size of a value's last axis, by its shape or by the weight or bias that it comes from."""
    if value is not None and value.shape is not None and isinstance(value.shape[-1], int):
        return value.shape[-1]
    node = producer(value, "Add", "MatMul")
    for given_value in node.inputs[::-1] if node is not None else ():
        array = constant(given_value)
        if array is not None and array.ndim:
            return int(array.shape[-1])
    return width_of(node.inputs[0]) if node is not None else None


def _terms(
    reading: Reading,
    node: ir.Node,
    masks: dict[tuple[ir.Value, float], ir.Value],
    mask: ir.Value | None,
    bias: ir.Value | None,
) -> list[ir.Value]:
    """Return what is added to the scores."""
    terms = [bias] if bias is not None else []
    if attribute_int(node, "unidirectional", 0):
        terms.append(order_bias(reading, node))
    if mask is not None:
        key = (mask, attribute_float(node, "mask_filter_value", _MASKED))
        if key not in masks:
            masks[key] = mask_bias(reading, node, *key)
        terms.append(masks[key])
    return terms


def mask_bias(reading: Reading, node: ir.Node, mask: ir.Value, low: float) -> ir.Value:
    """Return the additive bias of a mask: `[batch, keys]` or `[batch, queries, keys]` with 1 for what counts, or lengths `[batch]`.

    Lengths are the sums of a mask; that mask itself is read.
    """
    counted = producer(source_of(mask), "ReduceSum")
    if counted is not None:
        mask = source_of(counted.inputs[0]) or mask
    axes = rank(mask) if rank(mask) is not None else rank(source_of(mask))
    if axes not in (2, 3):
        raise reading.refuse(
            node, f"a mask of {axes if axes is not None else 'an unknown number of'} axes is not read: that of keys is"
        )
    kept = op(node, "Cast", [mask], "kept", to=int(ir.DataType.FLOAT))
    dropped = op(node, "Sub", [number(reading, 1.0), kept], "dropped")
    added = op(node, "Mul", [dropped, number(reading, low)], "masked")
    return op(node, "Unsqueeze", [added, integers(reading, *((1, 2) if axes == 2 else (1,)))], "mask_bias")


def order_bias(reading: Reading, node: ir.Node) -> ir.Value:
    """Return the additive bias `[queries, keys]` by which each token attends to those before it and itself alone."""
    length = op(node, "Shape", [node.inputs[0]], "length", dtype=ir.DataType.INT64, start=1, end=2)
    ends = op(node, "Squeeze", [length], "tokens", dtype=ir.DataType.INT64)
    places = op(node, "Range", [count(reading, 0), ends, count(reading, 1)], "places", dtype=ir.DataType.INT64)
    rows = op(node, "Unsqueeze", [places, integers(reading, 1)], "rows", dtype=ir.DataType.INT64)
    later = op(node, "Less", [rows, places], "later", dtype=ir.DataType.BOOL)
    low, zero = number(reading, float(np.finfo(np.float32).min)), number(reading, 0.0)
    return op(node, "Where", [later, low, zero], "order")


def write_out(
    reading: Reading,
    node: ir.Node,
    parts: Sequence[ir.Value],
    heads: int,
    terms: Sequence[ir.Value],
    head_dim: int,
    kv_heads: int | None = None,
) -> ir.Value:
    """Write `softmax(scale Q Kᵀ + terms) V` in the operators of ONNX. `kv_heads`: heads of keys and values, which queries share."""
    join = integers(reading, 0, 0, -1)
    turned = []
    for name, x, count_of in zip(PARTS, parts, (heads, kv_heads or heads, kv_heads or heads), strict=True):
        apart = op(node, "Reshape", [x, integers(reading, 0, 0, count_of, -1)], f"{name}.heads")
        turned.append(op(node, "Transpose", [apart], f"{name}.turned", perm=[0, 2, 1, 3]))
        if count_of < heads:
            turned[-1] = _repeated(reading, node, turned[-1], heads // count_of, name)
    q, k, v = turned
    k = op(node, "Transpose", [k], "key.columns", perm=[0, 1, 3, 2])
    scale = optional_float(node, "scale") or 1 / math.sqrt(head_dim)
    scores = op(node, "Mul", [op(node, "MatMul", [q, k], "products"), number(reading, scale)], "scores")
    for i, term in enumerate(terms):
        scores = op(node, "Add", [scores, term], f"scores.{i}")
    weights = op(node, "Softmax", [scores], "weights", axis=-1)
    mixed = op(node, "Transpose", [op(node, "MatMul", [weights, v], "mixed")], "tokens_first", perm=[0, 2, 1, 3])
    return op(node, "Reshape", [mixed, join], "joined")


def _repeated(reading: Reading, node: ir.Node, x: ir.Value, times: int, name: str) -> ir.Value:
    """Return keys or values `[batch, heads, sequence, head_dim]` with each head as often as queries share it."""
    apart = op(node, "Unsqueeze", [x, integers(reading, 2)], f"{name}.apart")
    often = op(node, "Expand", [apart, integers(reading, 1, 1, times, 1, 1)], f"{name}.often")
    shape = op(node, "Shape", [often], f"{name}.shape", dtype=ir.DataType.INT64, start=3)
    ends = op(node, "Concat", [integers(reading, 0, -1), shape], f"{name}.sizes", dtype=ir.DataType.INT64, axis=0)
    # Zeros of Reshape copy by place: heads and their repetitions become one axis before the others.
    return op(node, "Reshape", [often, ends], f"{name}.repeated")


_READERS: dict[str, Callable[[Reading, ir.Node, dict[tuple[ir.Value, float], ir.Value]], ir.Value]] = {
    "Attention": _merged,
    "MultiHeadAttention": _separate,
}

FORM = Form(5, operators(*_READERS, *_DECODERS, *_OTHERS, domain=CONTRIB), read)
