"""Write `Attention` out as matmuls and a softmax: to measure them separately, and for runtimes without the operator."""

import numpy as np
import onnx_ir as ir

from ...errors import SourceError
from .edit import attribute_float, attribute_int, initializer, insert, nodes, remove_unused, replace
from .head_layout import repeat_shared_heads


def decompose_attention(model: ir.Model) -> int:
    """Rewrite every canonical `Attention` in place as MatMul, Mul, Add, Softmax, MatMul; return how many there were.

    Source: ONNX operator specification, Attention-23. SourceError names a causal attention, whose order is in no input.
    """
    graph = model.graph
    attentions = nodes(graph, "Attention")
    for node in attentions:
        if attribute_int(node, "is_causal", 0):
            raise SourceError(f"node {node.name!r}: a causal attention is not written out yet")
        _decompose(graph, node)
    remove_unused(model)
    return len(attentions)


def _decompose(graph: ir.Graph, node: ir.Node) -> None:
    repeat_shared_heads(graph, node)
    q, k, v = node.inputs[:3]
    bias = node.inputs[3] if len(node.inputs) > 3 else None
    heads = attribute_int(node, "q_num_heads")
    stem = node.outputs[0].name or "attention"
    f32 = ir.DataType.FLOAT
    split = initializer(graph, f"split_heads_{heads}", np.array([0, 0, heads, -1]))
    join = initializer(graph, "join_heads", np.array([0, 0, -1]))
    scale = initializer(graph, f"{stem}.scale", np.array(attribute_float(node, "scale"), np.float32))

    def heads_first(value: ir.Value | None, name: str, perm: list[int]) -> ir.Value:
        apart = insert(node, "Reshape", [value, split], name=f"{stem}.{name}.split", dtype=f32)
        return insert(node, "Transpose", [apart], name=f"{stem}.{name}", dtype=f32, perm=perm)

    query, key, value = (
        heads_first(q, "q", [0, 2, 1, 3]),
        heads_first(k, "k", [0, 2, 3, 1]),
        heads_first(v, "v", [0, 2, 1, 3]),
    )
    scores = insert(node, "MatMul", [query, key], name=f"{stem}.scores", dtype=f32)
    scores = insert(node, "Mul", [scores, scale], name=f"{stem}.scaled", dtype=f32)
    if bias is not None:
        scores = insert(node, "Add", [scores, bias], name=f"{stem}.masked", dtype=f32)
    weights = insert(node, "Softmax", [scores], name=f"{stem}.weights", dtype=f32, axis=-1)
    mixed = insert(node, "MatMul", [weights, value], name=f"{stem}.mixed", dtype=f32)
    back = insert(node, "Transpose", [mixed], name=f"{stem}.sequence_first", dtype=f32, perm=[0, 2, 1, 3])
    replace(
        node.outputs[0],
        insert(node, "Reshape", [back, join], name=f"{stem}.joined", dtype=f32, shape=node.outputs[0].shape),
    )
