"""Lower a graph for TensorRT and TensorRT-RTX: strongly typed, plain operators, opset 20.

Attention is written as two matmuls with a softmax between, which TensorRT 10 and 11 fuse, and where both inputs of both matmuls can be
int8. Queries are scaled before the matmul, as TensorRT asks: scores stay small, and within float16. The padding bias stays
`[batch, 1, 1, sequence]` and broadcasts.
Sources: TensorRT documentation, "Fused Attention", "Explicit Quantization", "Strongly Typed Networks".
"""

from collections.abc import Iterable, Mapping
from dataclasses import dataclass

import numpy as np
import onnx_ir as ir
from onnx_ir.passes import common

from ....errors import TargetError
from ...graph.anatomy import Anatomy, AttentionPart
from ...graph.canonical import small_enough_to_check
from ...graph.edit import (
    attribute_float,
    attribute_int,
    dims,
    initializer,
    insert,
    nodes,
    producer,
    remove_unused,
    replace,
    scalar,
)
from ...graph.head_layout import repeat_shared_heads
from ...graph.mask import PADDING_BIAS
from ...graph.quantized import TOKENS
from ..attention_terms import refusal
from ..base import TargetSpec
from .int8_check import problems_of
from .layer_names import name_nodes
from .plugin_nodes import OwnKernels
from .precision import Maxima, Precision, assign

OPSET = 20
SPEC = TargetSpec(
    "tensorrt",
    neuron_multiple=64,
    rank_multiple=64,
    signed_activations=True,
    int8_embeddings=False,
    integers="symmetric",
)
"""Tensor cores work in tiles; 64 columns are the fewest that the wide kernels take."""

DTYPES = {"fp32": ir.DataType.FLOAT, "fp16": ir.DataType.FLOAT16, "bf16": ir.DataType.BFLOAT16}
PROBABILITY_SCALE = "probability_scale"
"""Metadata property of an `Attention` node, saved with the graph: the int8 scale of its softmax's output, as a decimal number.
Without it the output stays float, and so does the matmul that reads it: what the canonical graph does not quantize stays float."""

F32 = ir.DataType.FLOAT


@dataclass
class Lowered:
    """How many attentions were lowered, how many of them in int8, and which nodes stayed float32."""

    attention: int = 0
    attention_int8: int = 0
    precision: Precision | None = None
    kernels: OwnKernels | None = None

    def as_dict(self) -> dict[str, int]:
        counts = {"attention": self.attention, "attention_int8": self.attention_int8}
        if self.kernels is not None:
            counts |= {"attention_plugin": self.kernels.attentions, "softmax_plugin": self.kernels.softmaxes}
        if self.precision is not None:
            counts |= {"casts": self.precision.casts, **self.precision.count()}
        return counts


def lower(
    model: ir.Model,
    anatomy: Anatomy,
    dtype: str,
    feeds: Iterable[Mapping[str, np.ndarray]],
    *,
    rules: bool = True,
    kernels: OwnKernels | None = None,
) -> Lowered:
    """Lower a canonical model in place to `dtype` (fp32, fp16, bf16); ranges of activations are observed on the batches `feeds`.

    Inputs stay int64, outputs float32. `rules` as in `precision.assign`. With `kernels`, Headway's own kernels compute attention.
    Raise TargetError naming the node that TensorRT, or the kernels, cannot compute.
    """
    _check_domains(model.graph)
    lowered = Lowered(kernels=kernels)
    modules = {b.attention.node: _module(b.attention) for b in anatomy.blocks if b.attention is not None}
    for node in nodes(model.graph, "Attention"):
        lowered.attention_int8 += _attention(model.graph, node, modules.get(node) or str(node.outputs[0].name), kernels)
        lowered.attention += 1
    if kernels is not None:
        mixed = [b.attention.node for b in anatomy.blocks if b.attention is not None and b.attention.disentangled]
        if mixed:
            raise refusal(mixed[0], "its scores have disentangled terms")
        if not lowered.attention:
            raise TargetError(
                "the model has no attention for Headway's own kernels: export it with `kernels: stock` (--kernels stock)"
            )
    if lowered.attention != sum(b.attention is not None and not b.attention.disentangled for b in anatomy.blocks):
        raise TargetError("not every attention of the model was lowered")
    remove_unused(model)
    model.graph.sort()
    _to_opset(model)
    name_nodes(model.graph)
    if DTYPES[dtype] != F32:
        lowered.precision = assign(model, DTYPES[dtype], observe(model, feeds) if rules else {}, rules=rules)
        model.graph.sort()
    problems = problems_of(model.graph)
    if problems:
        raise TargetError(f"the int8 graph is not one that TensorRT fuses: {'; '.join(problems[:3])}")
    if small_enough_to_check(model):
        common.CheckerPass()(model)
    return lowered


def _module(part: AttentionPart) -> str | None:
    """Return the module of an attention: the one that holds its query projection. ALBERT's repeats keep their number."""
    parent, _, own = str(part.q.output.name).rpartition(".")
    return f"{parent}#{own.split('#')[1]}" if parent and "#" in own else parent or None


def observe(model: ir.Model, feeds: Iterable[Mapping[str, np.ndarray]]) -> Maxima:
    """Return the largest absolute activation of each float value over `feeds`, with padding, which must not overflow either."""
    import torch

    from ...graph.torch_graph import TorchGraph

    graph = TorchGraph(model)
    largest: dict[str, float] = {}

    def watch(name: str):
        def hook(value: torch.Tensor) -> torch.Tensor:
            if value.is_floating_point() and value.numel():
                maximum = float(value.abs().amax())
                largest[name] = max(largest.get(name, 0.0), maximum if np.isfinite(maximum) else np.inf)
            return value

        return hook

    hooks = {v: watch(str(v.name)) for n in graph.nodes for v in n.outputs}
    with torch.no_grad():
        for batch in feeds:
            graph(batch, hooks)
    return largest


def _check_domains(graph: ir.Graph) -> None:
    for node in graph:
        if node.op_type == TOKENS:
            raise TargetError(
                f"node {node.name!r}: activations quantized per token need Headway's kernels for CPUs: ask for static ranges"
            )
        if node.domain not in ("", "ai.onnx"):
            raise TargetError(
                f"node {node.name!r} ({node.domain}.{node.op_type}) is an operator of another runtime, which TensorRT does not have"
            )


def _to_opset(model: ir.Model) -> None:
    """Declare opset 20, which TensorRT 10.x reads; the operators that are left mean the same there.

    Weights in blocks, and int4, need opset 21. Raise TargetError for an operator that came later.
    """
    late = {"Attention", "RMSNormalization", "RotaryEmbedding", "Swish"}
    left = next((n for n in model.graph if n.op_type in late), None)
    if left is not None:
        raise TargetError(f"node {left.name!r} ({left.op_type}) has no form in opset {OPSET}")
    weights = [n for n in nodes(model.graph, "DequantizeLinear") if n.inputs[0] is not None]
    blocks = any("block_size" in n.attributes or n.inputs[0].dtype == ir.DataType.INT4 for n in weights)  # type: ignore[union-attr]
    model.graph.opset_imports[""] = OPSET + blocks
    model.ir_version = min(model.ir_version or 9, 10)


def _attention(graph: ir.Graph, node: ir.Node, stem: str, kernels: OwnKernels | None) -> bool:
    """Write one canonical attention as plain operators; return True where both its matmuls are int8.

    Its values are named after the module `stem`.
    """
    step = node.metadata_props.get(PROBABILITY_SCALE)
    quantized = step is not None and all(producer(x, "DequantizeLinear") is not None for x in node.inputs[:3])
    if kernels is not None and not quantized:
        replace(node.outputs[0], kernels.attention(graph, node, stem))
        return False
    if attribute_int(node, "is_causal", 0):
        raise TargetError(f"attention {node.name!r}: causal masks are not lowered for TensorRT yet")
    repeat_shared_heads(graph, node)
    heads = attribute_int(node, "q_num_heads")
    q, k, v = node.inputs[:3]
    bias = node.inputs[3] if len(node.inputs) > 3 else None
    result = node.outputs[0]
    width = (dims(q) or [None])[-1]
    if width is None or width % heads:
        raise TargetError(f"attention {node.name!r}: {width} columns do not divide into {heads} heads")
    batch, length = (q.shape[0], q.shape[1]) if q is not None and q.shape is not None else ("batch", "sequence")
    apart = [batch, heads, length, width // heads]
    split = initializer(graph, f"split_heads_{heads}", np.array([0, 0, heads, -1]))
    join = initializer(graph, "join_heads", np.array([0, 0, -1]))

    def heads_first(value: ir.Value | None, name: str, perm: list[int]) -> ir.Value:
        rows = insert(
            node, "Reshape", [value, split], name=f"{stem}.{name}.split", dtype=F32, shape=[batch, length, *apart[1::2]]
        )
        shape = [[batch, length, *apart[1::2]][i] for i in perm]
        return insert(node, "Transpose", [rows], name=f"{stem}.{name}.heads", dtype=F32, shape=shape, perm=perm)

    q = _scaled(graph, node, q, attribute_float(node, "scale"), f"{stem}.q.scaled")
    query, key, value = (
        heads_first(q, "q", [0, 2, 1, 3]),
        heads_first(k, "k", [0, 2, 3, 1]),
        heads_first(v, "v", [0, 2, 1, 3]),
    )
    square = [batch, heads, length, length]
    scores = insert(node, "MatMul", [query, key], name=f"{stem}.scores", dtype=F32, shape=square)
    if bias is not None and kernels is not None:
        weights = kernels.softmax(graph, node, scores, _keys(bias), f"{stem}.weights")
    else:
        if bias is not None:
            scores = insert(node, "Add", [scores, _keys(bias)], name=f"{stem}.masked", dtype=F32, shape=square)
        weights = insert(node, "Softmax", [scores], name=f"{stem}.weights", dtype=F32, shape=square, axis=-1)
    if quantized and step is not None:
        zero = initializer(graph, "zero_point_int8", np.array(0, np.int8))
        weights = _pair(graph, node, weights, float(step), zero)
    mixed = insert(node, "MatMul", [weights, value], name=f"{stem}.mixed", dtype=F32, shape=apart)
    back = insert(
        node, "Transpose", [mixed], name=f"{stem}.sequence_first", dtype=F32, shape=[apart[i] for i in (0, 2, 1, 3)],
        perm=[0, 2, 1, 3],
    )  # fmt: skip
    joined = insert(node, "Reshape", [back, join], name=f"{stem}.joined", dtype=F32, shape=result.shape)
    replace(result, joined)
    return quantized


def _scaled(graph: ir.Graph, node: ir.Node, q: ir.Value | None, scale: float, name: str) -> ir.Value:
    """Return queries times `scale`.

    Where they are quantized, they are scaled first, and the quantization scale with them: the integers stay the same.
    """
    factor = initializer(graph, f"attention_scale_{scale:.9g}", np.array(scale, np.float32))
    dequantize = producer(q, "DequantizeLinear")
    quantize = producer(dequantize.inputs[0], "QuantizeLinear") if dequantize is not None else None
    if dequantize is None or quantize is None:
        return insert(node, "Mul", [q, factor], name=name, dtype=F32, shape=q.shape if q is not None else None)
    step = scalar(quantize.inputs[1])
    if step is None:
        raise TargetError(
            f"node {quantize.name!r}: activations are quantized with one scale per tensor here, not one per channel"
        )
    source = quantize.inputs[0]
    shape = source.shape if source is not None else None
    product = insert(node, "Mul", [source, factor], name=name, dtype=F32, shape=shape)
    return _pair(graph, node, product, step * scale, quantize.inputs[2])


def _pair(graph: ir.Graph, before: ir.Node, value: ir.Value, step: float, zero: ir.Value | None) -> ir.Value:
    """Insert QuantizeLinear and DequantizeLinear with one scale for the tensor before the node `before`."""
    scale = initializer(graph, f"{value.name}.scale", np.array(step, np.float32))
    short = insert(
        before,
        "QuantizeLinear",
        [value, scale, zero],
        name=f"{value.name}.int8",
        dtype=ir.DataType.INT8,
        shape=value.shape,
    )
    return insert(
        before, "DequantizeLinear", [short, scale, zero], name=f"{value.name}.dequantized", dtype=F32, shape=value.shape
    )


def _keys(bias: ir.Value) -> ir.Value:
    """Return the padding bias before it is broadcast over queries, `[batch, 1, 1, sequence]`; with a window, the minimum of both.

    The sum of two masks would be -60000, too near to the limit of float16; either mask alone is enough.
    """
    spread = producer(bias, "Expand")
    if bias.name == PADDING_BIAS and spread is not None and spread.inputs[0] is not None:
        return spread.inputs[0]
    both = producer(bias, "Add")
    if (
        (bias.name or "").startswith(f"{PADDING_BIAS}.window_")
        and "position" not in str(bias.name)
        and both is not None
    ):
        least = insert(both, "Min", list(both.inputs), name=f"{bias.name}.least", dtype=F32, shape=bias.shape)
        replace(bias, least)
        return least
    return bias
