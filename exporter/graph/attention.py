"""Every form of scaled dot-product attention becomes one `Attention` node with 3-D inputs.

Recognized: the opset-23 `Attention` on 4-D heads that `torch.onnx` emits, and the decomposed form
`softmax(scale * Q K^T + terms) V` in all its spellings (scale before or after the product, additive or `Where` masks, NaN
guards, dropout). A softmax over attention scores that fits neither is disentangled attention (DeBERTa), left in
ordinary ops, or an error naming the node.
"""

from dataclasses import dataclass, field

import numpy as np
import onnx_ir as ir

from ...errors import SourceError
from .edit import (
    ancestors,
    attribute,
    constant,
    consumers,
    dims,
    initializer,
    insert,
    is_projection,
    nodes,
    other_input,
    producer,
    replace,
    scalar,
)
from .mask import BiasBuilder, MaskKind, classify
from .probe import Prober


@dataclass
class Match:
    """One attention: query, key and value (4-D heads or 3-D), its mask terms and the value it produces."""

    node: ir.Node
    q: ir.Value
    k: ir.Value
    v: ir.Value
    scale: float
    out: ir.Value
    terms: list[ir.Value] = field(default_factory=list)
    causal: bool = False


def canonicalize_attention(
    model: ir.Model, prober: Prober, mask: ir.Value | None, ids: ir.Value | None, longest: int
) -> None:
    """Rewrites every attention in place, but disentangled ones, which stay as they are.

    Raises SourceError naming the node for an attention that is of neither kind.
    """
    builder = BiasBuilder(model, mask, ids)
    kinds: dict[ir.Value, MaskKind | None] = {}
    found: list[Match] = []
    for node in nodes(model.graph, "Attention", "Softmax"):
        if node.op_type == "Softmax" and not normalizes_scores(node):
            continue
        match = _fused(node) if node.op_type == "Attention" else _decomposed(node, prober)
        if match is not None:
            found.append(match)
        elif not _is_disentangled(node):
            raise SourceError(
                f"node {node.name or node.outputs[0].name!r} ({node.op_type}) normalizes attention scores, but is no form of "
                "attention known here; re-export the model with attn_implementation='sdpa', without graph optimization"
            )
    # Every mask is classified and every shape known before the first edit: probing runs parts of the graph, which must still be whole.
    for match in found:
        for value in (match.q, match.k, match.v):
            _complete_shape(value, prober)
        for term in match.terms:
            if term not in kinds:
                kinds[term] = classify(prober, term, mask, longest)
    for match in found:
        _rewrite(model.graph, match, kinds, builder)


def _fused(node: ir.Node) -> Match:
    if any(o.uses() for o in node.outputs[1:]):
        raise SourceError(
            f"node {node.name!r}: Attention with key/value cache outputs is a decoder step, which is not supported yet"
        )
    if attribute(node, "softcap", 0.0):
        raise SourceError(f"node {node.name!r}: Attention with softcap is not supported")
    q, k, v = node.inputs[:3]
    assert q is not None and k is not None and v is not None
    return Match(node, q, k, v, _scale(node, q), node.outputs[0], _terms(node), bool(attribute(node, "is_causal", 0)))


def _terms(node: ir.Node) -> list[ir.Value]:
    return [node.inputs[3]] if len(node.inputs) > 3 and node.inputs[3] is not None else []


def _scale(node: ir.Node, q: ir.Value) -> float:
    given = attribute(node, "scale")
    if given is not None:
        return float(given)  # type: ignore[arg-type]
    shape = dims(q)
    head_dim = shape[-1] if shape else None
    if head_dim is None:
        raise SourceError(f"node {node.name!r}: neither scale nor head_dim is known")
    return float(1 / np.sqrt(head_dim))


def normalizes_scores(node: ir.Node) -> bool:
    """True where the softmax normalizes a query-by-key matrix: a product reads its output."""
    return any(n.op_type in ("MatMul", "Reshape", "Where", "Dropout") for n in consumers(node.outputs[0]))


def _is_disentangled(softmax: ir.Node) -> bool:
    """DeBERTa's content-to-position terms: scores gathered by relative position between projections and softmax."""
    assert softmax.inputs[0] is not None
    projections = {v for v in ancestors(softmax.inputs[0]) if is_projection(v.producer())}
    return any(producer(v, "GatherElements") for v in ancestors(softmax.inputs[0], stop=projections))


def _decomposed(softmax: ir.Node, prober: Prober) -> Match | None:
    scores = softmax.inputs[0]
    terms: list[ir.Value] = []
    scale = 1.0
    while True:
        node = producer(scores)
        if node is None:
            return None
        if node.op_type == "Add":
            score_side = _towards_product(node)
            if score_side is None:
                return None
            other = other_input(node, score_side)
            assert other is not None
            if scale != 1.0:
                return None
            terms.append(other)
            scores = score_side
        elif node.op_type in ("Mul", "Div"):
            score_side = _towards_product(node)
            if score_side is None or (node.op_type == "Div" and score_side is not node.inputs[0]):
                return None
            factor = _factor(other_input(node, score_side), prober)
            if factor is None:
                return None
            scale *= factor if node.op_type == "Mul" else 1 / factor
            scores = score_side
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
    k = _untranspose(transposed)
    weights = _after_softmax(softmax.outputs[0])
    product = next((n for n in consumers(weights) if n.op_type == "MatMul" and n.inputs[0] is weights), None)
    if k is None or product is None or product.inputs[1] is None or len(dims(q) or ()) != 4:
        return None
    return Match(softmax, q, k, product.inputs[1], scale * q_scale * k_scale, product.outputs[0], terms)


def _towards_product(node: ir.Node) -> ir.Value | None:
    """The input of an element-wise node that leads back to the Q K^T product."""
    return next((v for v in node.inputs if v is not None and _reaches_product(v)), None)


def _reaches_product(value: ir.Value, depth: int = 6) -> bool:
    node = producer(value, "MatMul", "Add", "Mul", "Div", "Where", "Cast", "Identity")
    if node is None or depth == 0:
        return False
    if node.op_type == "MatMul":
        return not is_projection(node)
    return any(v is not None and _reaches_product(v, depth - 1) for v in node.inputs)


def _factor(value: ir.Value | None, prober: Prober) -> float | None:
    number = scalar(value)
    if number is None and value is not None and not value.is_initializer() and dims(value) in (None, [], [1]):
        number = prober.number(value)
    return number


def _unscale(value: ir.Value, prober: Prober) -> tuple[ir.Value, float]:
    """Splits a factor off a query or a transposed key."""
    node = producer(value, "Mul", "Div")
    if node is None:
        return value, 1.0
    for side in (0, 1) if node.op_type == "Mul" else (1,):
        factor_value = node.inputs[side]
        if len(dims(factor_value) or ()) == 4:
            continue
        factor = _factor(factor_value, prober)
        rest = node.inputs[1 - side]
        if factor is not None and rest is not None:
            return rest, factor if node.op_type == "Mul" else 1 / factor
    return value, 1.0


def _untranspose(value: ir.Value) -> ir.Value | None:
    """From K^T `[batch, heads, head_dim, sequence]` to K `[batch, heads, sequence, head_dim]`."""
    node = producer(value, "Transpose")
    if node is None:
        return None
    perm = _perm(node)
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


def _where_term(node: ir.Node) -> tuple[ir.Value, ir.Value] | None:
    """For `Where(keep, scores, low)` or `Where(drop, low, scores)`: the scores and a boolean keep."""
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
    """Past dropout, casts and the guard `Where(IsNaN(p), 0, p)` of wholly masked rows."""
    while True:
        readers = consumers(value)
        guard = next(
            (n for n in readers if n.op_type == "Where" and n.inputs[2] is value and scalar(n.inputs[1]) == 0.0), None
        )
        single = readers[0] if len(readers) == 1 and readers[0].op_type in ("Dropout", "Identity", "Cast") else None
        step = guard or single
        if step is None:
            return value
        value = step.outputs[0]


def _rewrite(graph: ir.Graph, match: Match, kinds: dict[ir.Value, MaskKind | None], builder: BiasBuilder) -> None:
    known = [kind for term in match.terms if (kind := kinds[term]) is not None]
    positions = tuple(term for term in match.terms if kinds[term] is None)
    windows = [k.window for k in known if k.window is not None]
    kind = MaskKind(
        padding=any(k.padding for k in known),
        causal=match.causal or any(k.causal for k in known),
        window=min(windows) if windows else None,
    )
    anchor = match.node
    four_d = len(dims(match.q) or ()) == 4
    if four_d:
        q, heads = _merge_heads(graph, match.q, anchor)
        k, kv_heads = _merge_heads(graph, match.k, anchor)
        v, _ = _merge_heads(graph, match.v, anchor)
    else:
        q, k, v = match.q, match.k, match.v
        heads, kv_heads = int(attribute(anchor, "q_num_heads")), int(attribute(anchor, "kv_num_heads"))  # type: ignore[call-overload]
    bias = builder.bias(kind, positions, anchor)
    made = insert(
        anchor,
        "Attention",
        [q, k, v] if bias is None else [q, k, v, bias],
        name=f"{match.out.name}.attention",
        dtype=ir.DataType.FLOAT,
        shape=q.shape,
        q_num_heads=heads,
        kv_num_heads=kv_heads,
        scale=match.scale,
        is_causal=int(kind.causal),
    )
    joined = _joined(match.out, heads) if four_d else match.out
    if joined is not None:
        replace(joined, made)
    else:
        _split_heads(graph, match.out, made, heads)


def _merge_heads(graph: ir.Graph, value: ir.Value, anchor: ir.Node) -> tuple[ir.Value, int]:
    """The `[batch, sequence, heads*head_dim]` behind 4-D heads, and the number of heads."""
    split = producer(_unpermute(value), "Reshape")
    if split is not None:
        source, heads = split.inputs[0], _heads_of_split(split)
        if source is not None and heads is not None and len(dims(source) or ()) == 3:
            return source, heads
    shape = dims(value)
    if shape is None or len(shape) != 4 or shape[1] is None or shape[3] is None:
        raise SourceError(
            f"attention at {anchor.name!r}: the heads of {value.name!r} cannot be read, its shape is {value.shape}"
        )
    heads, width = shape[1], shape[1] * shape[3]
    order = [0, 2, 1, 3]
    sizes: list = list(value.shape) if value.shape is not None else [None] * 4
    last = _unpermute(value) or insert(
        anchor,
        "Transpose",
        [value],
        name=f"{value.name}.sequence_first",
        dtype=value.dtype,
        perm=order,
        shape=[sizes[p] for p in order],
    )
    target = initializer(graph, f"join_heads_{width}", np.array([0, 0, width]))
    joined = insert(
        anchor,
        "Reshape",
        [last, target],
        name=f"{value.name}.joined",
        dtype=value.dtype,
        shape=[sizes[0], sizes[2], width],
    )
    return joined, heads


def _complete_shape(value: ir.Value, prober: Prober) -> None:
    """Finds out heads and head_dim of a 4-D value where neither its shape nor the Reshape that splits it tells."""
    shape = dims(value)
    if shape is None or len(shape) == 3 or (len(shape) == 4 and shape[1] and shape[3]):
        return
    split = producer(_unpermute(value), "Reshape")
    if split is not None and _heads_of_split(split) is not None:
        return
    known = prober.fixed_dims(value)
    if len(known) == 4 and value.shape is not None:
        value.shape = ir.Shape([old if new is None else new for old, new in zip(value.shape, known, strict=True)])


def _heads_of_split(reshape: ir.Node) -> int | None:
    """Heads that a Reshape from `[…, width]` to `[…, heads, head_dim]` makes; one of the two may be left open as -1."""
    width = (dims(reshape.inputs[0]) or [None])[-1]
    shape = dims(reshape.outputs[0]) or []
    if len(shape) != 4:
        return None
    heads, head_dim = (given or inferred for given, inferred in zip(_target(reshape)[-2:], shape[-2:], strict=True))
    if heads is None and head_dim is not None and width is not None:
        heads = width // head_dim
    if heads is None or width is None or width % heads or (head_dim is not None and heads * head_dim != width):
        return None
    return heads


def _target(reshape: ir.Node) -> list[int | None]:
    """The sizes a Reshape asks for; None for what is computed or -1."""
    given = constant(reshape.inputs[1])
    if given is not None:
        sizes = [int(x) for x in given]
    else:
        concat = producer(reshape.inputs[1], "Concat")
        parts = [constant(v) for v in concat.inputs] if concat is not None else []
        sizes = [int(p.reshape(())) if p is not None and p.size == 1 else -1 for p in parts]
    padded = [-1] * max(0, 4 - len(sizes)) + sizes
    return [x if x > 0 else None for x in padded]


def _unpermute(value: ir.Value) -> ir.Value | None:
    """What a Transpose that swaps heads and sequence was given."""
    node = producer(value, "Transpose")
    return node.inputs[0] if node is not None and _perm(node) == [0, 2, 1, 3] else None


def _perm(node: ir.Node) -> list[int]:
    return list(attribute(node, "perm", []))  # type: ignore[call-overload]


def _joined(out: ir.Value, heads: int) -> ir.Value | None:
    """The `[batch, sequence, heads*head_dim]` that the exporter makes from the 4-D result, if that is its only use."""
    value = out
    for op_type in ("Reshape", "Transpose", "Reshape"):
        readers = consumers(value)
        if len(readers) != 1:
            return None
        if op_type == "Reshape" and value is out and len(dims(readers[0].outputs[0]) or ()) != 4:
            return None
        if op_type == "Reshape" and value is out and readers[0].op_type == "Transpose":
            continue  # only some exporters put an idle 4-D Reshape here
        if readers[0].op_type != op_type or (op_type == "Transpose" and _perm(readers[0]) != [0, 2, 1, 3]):
            return None
        value = readers[0].outputs[0]
    shape, split = dims(value), dims(out)
    if shape is None or len(shape) != 3:
        return None
    width = heads * split[3] if split is not None and split[3] is not None else None
    return value if width is None or shape[2] in (None, width) else None


def _split_heads(graph: ir.Graph, out: ir.Value, made: ir.Value, heads: int) -> None:
    """Gives the readers of a 4-D result their 4-D form back, from the 3-D node."""
    split = initializer(graph, f"split_heads_{heads}", np.array([0, 0, heads, -1]))
    anchor = consumers(out)[0]
    apart = insert(anchor, "Reshape", [made, split], name=f"{made.name}.split", dtype=made.dtype)
    replace(
        out, insert(anchor, "Transpose", [apart], name=f"{made.name}.heads_first", dtype=made.dtype, perm=[0, 2, 1, 3])
    )
