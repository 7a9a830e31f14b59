"""Read attention that was fused with its projections or without them: ONNX Runtime's contrib Attention and MultiHeadAttention.

Merged weights of query, key and value are divided, integers included; masks become one additive bias. What only decoders have, a
cache or an order of the tokens, is refused.
"""

import math
from collections.abc import Callable

import numpy as np
import onnx_ir as ir

from ...graph.edit import attribute_float, attribute_int, attribute_ints, constant, optional_float, producer
from ...graph.stored_weights import note_stored, stored_of
from .base import CONTRIB, Form, Reading, drop, finish, given, integers, number, op, operators, rank, source_of

_PARTS = ("query", "key", "value")
_MASKED = -10000.0
_DECODERS = (
    "GroupQueryAttention",
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
    """Return the number of heads. SourceError for a cache, an order of tokens, or rotation inside."""
    if any(given(node, i) is not None for i in caches):
        raise reading.refuse(node, "it has a cache of keys and values, as decoders have: encoders alone are read")
    if attribute_int(node, "unidirectional", 0):
        raise reading.refuse(
            node, "each token attends to those before it alone, as in decoders: encoders alone are read"
        )
    if attribute_int(node, "do_rotary", 0):
        raise reading.refuse(node, "it rotates queries and keys inside, which is not read")
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
    for part, width in zip(_PARTS, widths, strict=True):
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
    return _write_out(reading, node, projected, heads, terms, widths[0] // heads)


def _check_heads(reading: Reading, node: ir.Node, heads: int, widths: tuple[int, ...]) -> None:
    if any(width % heads for width in widths):
        raise reading.refuse(node, f"{heads} heads do not divide {widths} columns: the file is damaged")


def _separate(reading: Reading, node: ir.Node, masks: dict[tuple[ir.Value, float], ir.Value]) -> ir.Value:
    """Read `MultiHeadAttention`: query, key, value `[batch, sequence, hidden]`, bias, mask of keys, additive bias, cache."""
    heads = _check_encoder(reading, node, (6, 7, 8, 9))
    parts = [given(node, i) for i in range(3)]
    if any(part is None or rank(part) not in (3, None) for part in parts):
        raise reading.refuse(node, "queries, keys and values packed into one input are not read")
    bias, hidden = given(node, 3), None
    if bias is not None:
        whole = reading.array(node, 3, "bias")
        if whole.ndim != 1 or whole.size % 3:
            raise reading.refuse(
                node, f"a bias of shape {list(whole.shape)} is none of three parts: the file is damaged"
            )
        hidden = whole.size // 3
        for i, part in enumerate(_PARTS):
            vector = reading.floats(f"{bias.name}.{part}", np.ascontiguousarray(whole[i * hidden : (i + 1) * hidden]))
            parts[i] = op(node, "Add", [parts[i], vector], f"{part}.biased")
    hidden = hidden or _width(given(node, 0))
    if hidden is None and optional_float(node, "scale") is None:
        raise reading.refuse(node, "the size of its heads is not known")
    if hidden is not None:
        _check_heads(reading, node, heads, (hidden,))
    terms = _terms(reading, node, masks, given(node, 4), given(node, 5))
    return _write_out(reading, node, [p for p in parts if p is not None], heads, terms, (hidden or heads) // heads)


def _width(value: ir.Value | None) -> int | None:
    """Return the size of a value's last axis, by its shape or by the weight or bias that it comes from."""
    if value is not None and value.shape is not None and isinstance(value.shape[-1], int):
        return value.shape[-1]
    node = producer(value, "Add", "MatMul")
    for given_value in node.inputs[::-1] if node is not None else ():
        array = constant(given_value)
        if array is not None and array.ndim:
            return int(array.shape[-1])
    return _width(node.inputs[0]) if node is not None else None


def _terms(
    reading: Reading,
    node: ir.Node,
    masks: dict[tuple[ir.Value, float], ir.Value],
    mask: ir.Value | None,
    bias: ir.Value | None,
) -> list[ir.Value]:
    """Return what is added to the scores."""
    terms = [bias] if bias is not None else []
    if mask is not None:
        key = (mask, attribute_float(node, "mask_filter_value", _MASKED))
        if key not in masks:
            masks[key] = _mask_bias(reading, node, *key)
        terms.append(masks[key])
    return terms


def _mask_bias(reading: Reading, node: ir.Node, mask: ir.Value, low: float) -> ir.Value:
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


def _write_out(
    reading: Reading, node: ir.Node, parts: list[ir.Value], heads: int, terms: list[ir.Value], head_dim: int
) -> ir.Value:
    """Write `softmax(scale Q Kᵀ + terms) V` in the operators of ONNX."""
    split, join = integers(reading, 0, 0, heads, -1), integers(reading, 0, 0, -1)
    perms = {"query": [0, 2, 1, 3], "key": [0, 2, 3, 1], "value": [0, 2, 1, 3]}
    q, k, v = (
        op(node, "Transpose", [op(node, "Reshape", [x, split], f"{part}.heads")], f"{part}.turned", perm=perms[part])
        for part, x in zip(_PARTS, parts, strict=True)
    )
    scale = optional_float(node, "scale") or 1 / math.sqrt(head_dim)
    scores = op(node, "Mul", [op(node, "MatMul", [q, k], "products"), number(reading, scale)], "scores")
    for i, term in enumerate(terms):
        scores = op(node, "Add", [scores, term], f"scores.{i}")
    weights = op(node, "Softmax", [scores], "weights", axis=-1)
    mixed = op(node, "Transpose", [op(node, "MatMul", [weights, v], "mixed")], "tokens_first", perm=[0, 2, 1, 3])
    return op(node, "Reshape", [mixed, join], "joined")


_READERS: dict[str, Callable[[Reading, ir.Node, dict[tuple[ir.Value, float], ir.Value]], ir.Value]] = {
    "Attention": _merged,
    "MultiHeadAttention": _separate,
}

FORM = Form(5, operators(*_READERS, *_DECODERS, *_OTHERS, domain=CONTRIB), read)
