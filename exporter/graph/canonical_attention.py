"""Make every scaled dot-product attention one `Attention` node with 3-D inputs and one shared bias.

A softmax over attention scores that is no known form is disentangled attention (DeBERTa), which is left in ordinary
operators, or an error naming the node.
"""

import onnx_ir as ir

from ...errors import SourceError
from .attention_forms import Match, match_attention, normalizes_scores
from .edit import attribute_int, dims, insert, nodes, replace
from .families.disentangled import is_disentangled
from .head_layout import complete_shape, joined_heads, merge_heads, split_heads
from .mask import BiasBuilder, MaskKind, classify
from .probe import Prober


def canonicalize_attention(
    model: ir.Model, prober: Prober, mask: ir.Value | None, ids: ir.Value | None, longest: int
) -> None:
    """Rewrite every attention in place, except disentangled ones, which stay as they are.

    `longest` is the longest sequence in tokens. Raises SourceError naming the node of an attention of neither kind.
    """
    builder = BiasBuilder(model, mask, ids)
    kinds: dict[ir.Value, MaskKind | None] = {}
    matches: list[Match] = []
    for node in nodes(model.graph, "Attention", "Softmax"):
        if node.op_type == "Softmax" and not normalizes_scores(node):
            continue
        match = match_attention(node, prober)
        if match is not None:
            matches.append(match)
        elif not is_disentangled(node):
            raise SourceError(
                f"node {node.name or node.outputs[0].name!r} ({node.op_type}) normalizes attention scores, but is no form of "
                "attention known here; re-export the model with attn_implementation='sdpa', without graph optimization"
            )
    # Probing runs parts of the graph as it came: every mask is classified and every shape known before the first edit.
    for match in matches:
        for value in (match.q, match.k, match.v):
            complete_shape(value, prober)
        for term in match.terms:
            if term not in kinds:
                kinds[term] = classify(prober, term, mask, longest)
    for match in matches:
        _rewrite(model.graph, match, kinds, builder)


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
