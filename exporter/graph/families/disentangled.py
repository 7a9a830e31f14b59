"""Disentangled attention (DeBERTa): scores have terms gathered by relative position. It stays in ordinary operators.

Source: He et al. 2021, DeBERTa, section 3.1.
"""

import onnx_ir as ir

from ....errors import SourceError
from ..edit import ancestors, dims, is_projection, producer
from ..parts import AttentionPart
from ..projections import as_projection, projection_after, projection_behind, projections_behind, values_ahead


def is_disentangled(softmax: ir.Node) -> bool:
    """Return True where scores are gathered by relative position between the projections and the softmax."""
    assert softmax.inputs[0] is not None
    projections = {v for v in ancestors(softmax.inputs[0]) if is_projection(v.producer())}
    return any(producer(v, "GatherElements") for v in ancestors(softmax.inputs[0], stop=projections))


def read_disentangled(softmax: ir.Node) -> AttentionPart:
    """Read an attention from its softmax. SourceError where no query and key lead to its scores.

    The content-to-content term is the matmul whose two inputs come from one content projection each.
    """
    scores = softmax.inputs[0]
    shape = dims(scores)
    assert scores is not None
    weights = next((p for v in values_ahead(softmax.outputs[0]) if (p := v.producer()) and p.op_type == "MatMul"), None)
    heads = shape[1] if shape and len(shape) == 4 else None
    if heads is None or weights is None:
        raise SourceError(f"attention {softmax.name!r}: its heads cannot be read from scores of shape {shape}")
    stop = {v for v in ancestors(scores) if is_projection(v.producer())}
    # Nearest first: the content-to-content term is added last to the scores, so it is met first.
    matmuls = [p for v in ancestors(scores, stop) if (p := producer(v, "MatMul")) and not is_projection(p)]
    sides = [[projections_behind(i) for i in p.inputs] for p in matmuls]
    content = next(
        (
            s
            for s in sides
            if [len(x) for x in s] == [1, 1]
            and len(dims(s[0][0].outputs[0]) or ()) == 3
            and not _fixed(s[0][0])
            and not _fixed(s[1][0])
        ),
        None,
    )
    if content is None:
        raise SourceError(f"attention {softmax.name!r}: no matmul of a query and a key leads to its scores")
    q, k = as_projection(content[0][0]), as_projection(content[1][0])
    v = projection_behind(weights.inputs[1], softmax, "value")
    return AttentionPart(
        softmax,
        heads,
        heads,
        q.out_features // heads,
        q,
        k,
        v,
        projection_after(weights.outputs[0], softmax),
        disentangled=True,
    )


def _fixed(node: ir.Node) -> bool:
    """Return True for a projection of the relative positions' embedding, which does not vary with the batch."""
    shape = dims(node.outputs[0])
    return shape is not None and all(d is not None for d in shape)
