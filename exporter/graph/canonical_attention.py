"""Make every scaled dot-product attention one `Attention` node with 3-D inputs and one shared bias.

A softmax over attention scores that is no known form stays in ordinary operators: disentangled attention (DeBERTa), whose
parts are read all the same, and any other, which is named with the reason. A mask that is no known form stays as the source computes it.
"""

import onnx_ir as ir

from ...errors import SourceError
from .attention_forms import Match, match_attention, normalizes_scores
from .edit import ancestors, attribute_int, dims, insert, is_projection, nodes, replace
from .families.disentangled import is_disentangled
from .head_layout import before_repeat, check_heads, complete_shape, joined_heads, merge_heads, split_heads
from .mask import BiasBuilder, MaskKind, classify
from .parts import NO_FORM, UNREAD
from .probe import Prober


def canonicalize_attention(
    model: ir.Model, prober: Prober, mask: ir.Value | None, ids: ir.Value | None, longest: int
) -> tuple[str, ...]:
    """Rewrite every attention in place, except those of no known form; return a sentence for each that stays, or whose mask does.

    `longest` is the longest sequence in tokens.
    """
    builder = BiasBuilder(model, mask, ids)
    kinds: dict[ir.Value, MaskKind | None] = {}
    matches: list[Match] = []
    left: dict[str, list[str]] = {}
    for node in nodes(model.graph, "Attention", "Softmax"):
        if node.op_type == "Softmax" and not normalizes_scores(node):
            continue
        why = NO_FORM
        try:
            match = match_attention(node, prober)
            # Probing runs parts of the graph as it came: every mask is classified and every shape known before the first edit.
            for value in (match.q, match.k, match.v) if match is not None else ():
                complete_shape(value, prober)
                check_heads(value, node)
            if match is not None and len(dims(match.k) or ()) == 4:
                key, value = (before_repeat(v, prober) for v in (match.k, match.v))
                if (dims(key) or [0, 0])[1] == (dims(value) or [0, 0])[1]:
                    match.k, match.v = key, value
            if (
                match is not None
                and (term := next((t for t in match.terms if _reads_content(t, ids)), None)) is not None
            ):
                match, why = (
                    None,
                    f"its scores have the term {term.name!r}, which is computed from the text by trained weights",
                )
        except SourceError as error:
            match, why = None, str(error)
        if match is not None:
            matches.append(match)
        elif node.op_type == "Attention" or not is_disentangled(node):
            node.meta[UNREAD] = why
            left.setdefault(f"in ordinary operators: {why}", []).append(f"attention {node.name!r}")
    for term in dict.fromkeys(term for match in matches for term in match.terms):
        try:
            kinds[term] = classify(prober, term, mask, longest)
        except SourceError as error:
            kinds[term] = MaskKind(own=True)
            left.setdefault(f"as the source computes it: {error}", []).append(f"mask {term.name!r}")
    for match in matches:
        _rewrite(model.graph, match, kinds, builder)
    return tuple(f"{_listed(names)} stays {how}" for how, names in left.items())


def _listed(names: list[str]) -> str:
    return names[0] if len(names) == 1 else f"{names[0]} (and {len(names) - 1} alike)"


def _reads_content(term: ir.Value, ids: ir.Value | None) -> bool:
    """Return True where a term of the scores is no mask or position bias, but varies with what the tokens are."""
    behind = list(ancestors(term, by_shape=False))
    return ids in behind and any(is_projection(v.producer()) for v in behind)


def _rewrite(graph: ir.Graph, match: Match, kinds: dict[ir.Value, MaskKind | None], builder: BiasBuilder) -> None:
    known = [kind for term in match.terms if (kind := kinds[term]) is not None]
    anchor = match.node
    own = {term for term in match.terms if (given := kinds[term]) is not None and given.own}
    positions = tuple(
        builder.own(term, anchor) if term in own else term for term in match.terms if kinds[term] is None or term in own
    )
    windows = [k.window for k in known if k.window is not None]
    kind = MaskKind(
        padding=any(k.padding for k in known),
        causal=match.causal or any(k.causal for k in known),
        window=min(windows) if windows else None,
    )
    four_d = len(dims(match.q) or ()) == 4
    if four_d:
        q, heads = merge_heads(graph, match.q, anchor)
        k, kv_heads = merge_heads(graph, match.k, anchor)
        v, _ = merge_heads(graph, match.v, anchor)
    else:
        q, k, v = match.q, match.k, match.v
        heads, kv_heads = attribute_int(anchor, "q_num_heads"), attribute_int(anchor, "kv_num_heads")
    bias = builder.bias(kind, positions, anchor)
    attention = insert(
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
    merged = joined_heads(match.out, heads) if four_d else match.out
    if merged is not None:
        replace(merged, attention)
    else:
        split_heads(graph, match.out, attention, heads)
