"""Recognize scaled dot-product attention in the forms in which exporters write it.

These are the opset-23 `Attention` on 4-D heads that `torch.onnx` emits, and `softmax(scale * Q K^T + terms) V` in separate
operators, in all its variants: scale before or after the matmul, additive or `Where` masks, guards against NaN, dropout.
"""

from dataclasses import dataclass, field

import numpy as np
import onnx_ir as ir

from ...errors import SourceError
from .edit import (
    attribute_float,
    attribute_int,
    consumers,
    dims,
    insert,
    is_projection,
    optional_float,
    other_input,
    producer,
    scalar,
)
from .head_layout import permutation
from .probe import Prober

_AS_IS = ("Cast", "Dropout", "Identity")
"""Operators behind a softmax that leave its numbers as they are."""


@dataclass
class Match:
    """One attention: query, key and value (4-D heads or 3-D), its mask terms, and the value `out` that it gives."""

    node: ir.Node
    q: ir.Value
    k: ir.Value
    v: ir.Value
    scale: float
    out: ir.Value
    terms: list[ir.Value] = field(default_factory=list)
    causal: bool = False


def match_attention(node: ir.Node, prober: Prober) -> Match | None:
    """Return the attention of an `Attention`, or of a Softmax over scores; None where its form is not known."""
    return _fused(node) if node.op_type == "Attention" else _separate_operators(node, prober)


def _fused(node: ir.Node) -> Match:
    if any(o.uses() for o in node.outputs[1:]):
        raise SourceError(
            f"node {node.name!r}: Attention with key/value cache outputs is a decoder step, which is not supported yet"
        )
    if attribute_float(node, "softcap", 0.0):
        raise SourceError(f"node {node.name!r}: Attention with softcap is not supported")
    q, k, v = node.inputs[:3]
    assert q is not None and k is not None and v is not None
    return Match(
        node, q, k, v, _scale(node, q), node.outputs[0], _terms(node), bool(attribute_int(node, "is_causal", 0))
    )


def _terms(node: ir.Node) -> list[ir.Value]:
    return [node.inputs[3]] if len(node.inputs) > 3 and node.inputs[3] is not None else []


def _scale(node: ir.Node, q: ir.Value) -> float:
    given = optional_float(node, "scale")
    if given is not None:
        return given
    shape = dims(q)
    head_dim = shape[-1] if shape else None
    if head_dim is None:
        raise SourceError(f"node {node.name!r}: neither scale nor head_dim is known")
    return float(1 / np.sqrt(head_dim))


def normalizes_scores(node: ir.Node) -> bool:
    """Return True where a softmax normalizes a query-by-key matrix: a matmul reads its output, behind casts or dropout."""
    return any(
        n.op_type in ("MatMul", "Reshape", "Where") or (n.op_type in _AS_IS and normalizes_scores(n))
        for n in consumers(node.outputs[0])
    )


def _separate_operators(softmax: ir.Node, prober: Prober) -> Match | None:
    """Walk back from the softmax through scale and mask to Q K^T; None where another operator is met."""
    scores = softmax.inputs[0]
    terms: list[ir.Value] = []
    scale = 1.0
    while True:
        node = producer(scores)
        if node is None:
            return None
        if node.op_type == "Add":
            scores_input = _input_from_scores(node)
            if scores_input is None:
                return None
            other = other_input(node, scores_input)
            assert other is not None
            if scale != 1.0:
                return None
            terms.append(other)
            scores = scores_input
        elif node.op_type in ("Mul", "Div"):
            scores_input = _input_from_scores(node)
            if scores_input is None or (node.op_type == "Div" and scores_input is not node.inputs[0]):
                return None
            factor = _factor(other_input(node, scores_input), prober)
            if factor is None:
                return None
            scale *= factor if node.op_type == "Mul" else 1 / factor
            scores = scores_input
        elif node.op_type == "Where":
            masked = _where_term(node)
            if masked is None or scale != 1.0:
                return None
            scores, term = masked
            terms.append(term)
        elif node.op_type in ("Identity", "Cast"):
            scores = node.inputs[0]
        elif node.op_type == "MatMul":
            break
        else:
            return None
    q, transposed = node.inputs
    assert q is not None and transposed is not None
    q, q_scale = _unscale(q, prober)
    transposed, k_scale = _unscale(transposed, prober)
    k = _key_of_transposed(transposed, prober)
    weights = _after_softmax(softmax.outputs[0])
    mixing = next((n for n in consumers(weights) if n.op_type == "MatMul" and n.inputs[0] is weights), None)
    if k is None or mixing is None or mixing.inputs[1] is None or len(dims(q) or ()) != 4:
        return None
    return Match(softmax, q, k, mixing.inputs[1], scale * q_scale * k_scale, mixing.outputs[0], terms)


def _input_from_scores(node: ir.Node) -> ir.Value | None:
    """Return the input of an element-wise node that leads back to the matmul Q K^T."""
    return next((v for v in node.inputs if v is not None and _from_scores(v)), None)


def _from_scores(value: ir.Value, depth: int = 6) -> bool:
    node = producer(value, "MatMul", "Add", "Mul", "Div", "Where", "Cast", "Identity")
    if node is None or depth == 0:
        return False
    if node.op_type == "MatMul":
        return not is_projection(node)
    return any(v is not None and _from_scores(v, depth - 1) for v in node.inputs)


def _factor(value: ir.Value | None, prober: Prober) -> float | None:
    number = scalar(value)
    if number is None and value is not None and not value.is_initializer() and dims(value) in (None, [], [1]):
        number = prober.number(value)
    return number


def _unscale(value: ir.Value, prober: Prober) -> tuple[ir.Value, float]:
    """Return a query or a transposed key without a constant factor, and the factor."""
    node = producer(value, "Mul", "Div")
    if node is None:
        return value, 1.0
    for side in (0, 1) if node.op_type == "Mul" else (1,):
        factor = _factor(node.inputs[side], prober)
        rest = node.inputs[1 - side]
        if factor is not None and rest is not None:
            return rest, factor if node.op_type == "Mul" else 1 / factor
    return value, 1.0


def _key_of_transposed(value: ir.Value, prober: Prober) -> ir.Value | None:
    """Return K `[batch, heads, sequence, head_dim]` for K^T `[batch, heads, head_dim, sequence]`; None where it is no transpose."""
    node = producer(value, "Transpose")
    if node is None:
        return _key_behind_reshapes(value, prober)
    perm = permutation(node)
    source = node.inputs[0]
    assert source is not None
    if perm == [0, 1, 3, 2]:
        return source
    if perm == [0, 2, 3, 1]:  # heads split and transposed in one step
        return insert(
            node,
            "Transpose",
            [source],
            name=f"{value.name}.heads",
            dtype=source.dtype,
            perm=[0, 2, 1, 3],
            shape=None if source.shape is None else [source.shape[p] for p in (0, 2, 1, 3)],
        )
    return None


def _key_behind_reshapes(value: ir.Value, prober: Prober) -> ir.Value | None:
    """Return K where batch and heads are folded into one axis before the transpose and unfolded after it, as `torch.onnx` does.

    Where the names of axes do not tell whether that is what the Reshapes do, running them does.
    """
    unfold = producer(value, "Reshape")
    swap = producer(unfold.inputs[0], "Transpose") if unfold is not None else None
    fold = producer(swap.inputs[0], "Reshape") if swap is not None and permutation(swap) == [0, 2, 1] else None
    key = fold.inputs[0] if fold is not None else None
    if key is None or fold is None:
        return None
    if key.shape is not None and value.shape is not None and fold.outputs[0].shape is not None:
        before, folded, after = list(key.shape), list(fold.outputs[0].shape), list(value.shape)
        swapped = len(before) == 4 and after == [before[0], before[1], before[3], before[2]]
        if swapped and folded[1:] == before[2:]:
            return key
    return key if prober.swaps_last_axes(key, value) else None


def _where_term(node: ir.Node) -> tuple[ir.Value, ir.Value] | None:
    """Return the scores and a boolean `keep` of `Where(keep, scores, low)` or `Where(drop, low, scores)`."""
    condition, yes, no = node.inputs
    assert condition is not None and yes is not None and no is not None
    low_no, low_yes = scalar(no), scalar(yes)
    if low_no is not None and low_no < -1e3:
        return yes, condition
    if low_yes is not None and low_yes < -1e3:
        inverse = producer(condition, "Not")
        if inverse is not None and inverse.inputs[0] is not None:
            return no, inverse.inputs[0]
        return no, insert(
            node, "Not", [condition], name=f"{condition.name}.keep", dtype=ir.DataType.BOOL, shape=condition.shape
        )
    return None


def _after_softmax(value: ir.Value) -> ir.Value:
    """Return the value behind dropout, casts and the guard `Where(IsNaN(p), 0, p)` of wholly masked rows."""
    while True:
        readers = consumers(value)
        guard = next((n for n in readers if n.op_type == "Where" and _guards_nan(n, value)), None)
        single = readers[0] if len(readers) == 1 and readers[0].op_type in ("Dropout", "Identity", "Cast") else None
        step = guard or single
        if step is None:
            return value
        value = step.outputs[0]


def _guards_nan(where: ir.Node, value: ir.Value) -> bool:
    """Return True for `Where(IsNaN(value), 0, value)`."""
    condition = producer(where.inputs[0], "IsNaN")
    is_nan = condition is not None and condition.inputs[0] is value
    return is_nan and where.inputs[2] is value and scalar(where.inputs[1]) == 0.0
