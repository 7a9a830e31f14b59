"""ONNX Runtime: its own fused operators where they are faster, weights beside the graph, session options stored.

Fused attention with merged projections and the exact GELU pay on a CPU. `SkipLayerNormalization` and `BiasGelu` do not:
the fused skip+norm takes several times as long as `Add` and `LayerNormalization` do (`benchmarks/fusions.py` measures
all of them), so they are not made, and the runtime is kept from making them when it loads the graph.
"""

from collections.abc import Sequence
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

import numpy as np
import onnx_ir as ir

from ..errors import TargetError
from ..graph.anatomy import Anatomy
from ..graph.edit import attribute, consumers, dims, insert, is_projection, nodes, producer, remove_unused, replace
from ..graph.mask import MASKED, PADDING_BIAS, padding_mask
from ..runner import OrtRunner

CONTRIB = "com.microsoft"
MODEL_FILE = "model.onnx"
WEIGHTS_FILE = "model.onnx.data"

SLOW_FUSIONS = ("SkipLayerNormFusion", "BiasGeluFusion")


@dataclass
class Fusions:
    """How many of each fused operator the lowering made; `merged_qkv` are the attentions that project by one product."""

    attention: int = 0
    merged_qkv: int = 0
    gelu: int = 0

    def as_dict(self) -> dict[str, int]:
        return asdict(self)


def lower(model: ir.Model, anatomy: Anatomy) -> Fusions:
    """Lowers a canonical model in place. Raises TargetError naming the node where an expected fusion did not happen."""
    graph = model.graph
    graph.opset_imports[CONTRIB] = 1
    fusions = Fusions()
    lowering = _AttentionLowering(graph)
    for block in anatomy.blocks:
        if not block.attention.disentangled:
            fusions.merged_qkv += lowering.lower(block.attention.node)
            fusions.attention += 1
    for node in nodes(graph, "Gelu"):
        _gelu(node)
        fusions.gelu += 1
    remove_unused(model)
    graph.sort()
    _check(graph)
    return fusions


def write(model: ir.Model, directory: Path) -> None:
    """Writes the graph and its weights side by side; weights are streamed, one tensor in memory at a time."""
    ir.save(model, directory / MODEL_FILE, external_data=WEIGHTS_FILE)


def session_options(*, regroup: bool) -> dict[str, Any]:
    """What a bundle stores for its runner. All levels: fused nodes stay as they are, constants are left to the runtime.

    `regroup`: whether a batch of mixed lengths may be run as several, which needs answers that do not depend on padding.
    """
    return {"graph_optimization_level": "all", "disabled_optimizers": list(SLOW_FUSIONS), "regroup": regroup}


def open_runner(model: Path, options: dict[str, Any]) -> OrtRunner:
    """Opens a written artifact as a bundle would."""
    return OrtRunner(model, options)


def files(directory: Path) -> list[Path]:
    """The files of a written artifact."""
    return [p for name in (MODEL_FILE, WEIGHTS_FILE) if (p := directory / name).is_file()]


class _AttentionLowering:
    """Shared pieces of the attentions of one graph: the integer mask, and merged weights of layers that share them."""

    def __init__(self, graph: ir.Graph):
        self.graph = graph
        self._mask: ir.Value | None = None
        self._merged: dict[tuple[str, ...], tuple[ir.Value, ir.Value]] = {}

    def lower(self, node: ir.Node) -> bool:
        """Replaces one canonical attention; True where its three projections were merged into it."""
        bias = node.inputs[3] if len(node.inputs) > 3 else None
        padding_only = bias is not None and bias.name == PADDING_BIAS
        causal = int(attribute(node, "is_causal", 0))  # type: ignore[call-overload]
        common = {
            "num_heads": attribute(node, "q_num_heads"),
            "scale": attribute(node, "scale"),
            "mask_filter_value": MASKED,
            "unidirectional": causal,
        }
        projections = [_biased_projection(v) for v in node.inputs[:3]]
        result = node.outputs[0]
        name = f"{result.name}.fused"
        mask = self._padding_mask(bias, node) if padding_only and bias is not None else None
        if padding_only and _mergeable(projections):
            weight, offset = self._merge([p for p in projections if p is not None])
            inputs = [projections[0][0], weight, offset, mask]  # type: ignore[index]
            sizes = [w.shape[1] for _, w, _ in projections]  # type: ignore[misc,index]
            fused = insert(
                node,
                "Attention",
                inputs,
                name=name,
                domain=CONTRIB,
                dtype=ir.DataType.FLOAT,
                shape=result.shape,
                qkv_hidden_sizes=sizes,
                **common,
            )
            merged = True
        else:
            other = None if padding_only else bias
            inputs = [*node.inputs[:3], None, mask, other]
            while inputs[-1] is None:
                inputs.pop()
            fused = insert(
                node,
                "MultiHeadAttention",
                inputs,
                name=name,
                domain=CONTRIB,
                dtype=ir.DataType.FLOAT,
                shape=result.shape,
                **common,
            )
            merged = False
        replace(result, fused)
        return merged

    def _padding_mask(self, bias: ir.Value, anchor: ir.Node) -> ir.Value:
        if self._mask is None:
            mask = padding_mask(bias)
            i32 = ir.DataType.INT32
            self._mask = insert(
                anchor, "Cast", [mask], name="attention_mask.int32", dtype=i32, shape=mask.shape, to=int(i32)
            )
        return self._mask

    def _merge(self, projections: list[tuple[ir.Value, ir.Value, ir.Value]]) -> tuple[ir.Value, ir.Value]:
        key = tuple(str(w.name) for _, w, _ in projections)
        if key not in self._merged:
            weight = _concatenated(self.graph, [w for _, w, _ in projections], axis=1)
            self._merged[key] = weight, _concatenated(self.graph, [b for _, _, b in projections], axis=0)
        return self._merged[key]


def _biased_projection(value: ir.Value | None) -> tuple[ir.Value, ir.Value, ir.Value] | None:
    """Input, weight and bias of `x W + b`, where the graph has exactly that."""
    add = producer(value, "Add")
    if add is None:
        return None
    product = next((p for v in add.inputs if (p := producer(v, "MatMul")) is not None and is_projection(p)), None)
    bias = next((v for v in add.inputs if v is not None and v.is_initializer()), None)
    if product is None or bias is None or product.inputs[0] is None or product.inputs[1] is None:
        return None
    return (product.inputs[0], product.inputs[1], bias) if product.inputs[1].is_initializer() else None


def _mergeable(projections: Sequence[tuple[ir.Value, ir.Value, ir.Value] | None]) -> bool:
    found = [p for p in projections if p is not None]
    if len(found) != 3 or len({id(x) for x, _, _ in found}) != 1:
        return False
    # One fused operator runs all three only where they have the same width.
    return len({w.shape[1] for _, w, _ in found if w.shape is not None}) == 1 and len({id(w) for _, w, _ in found}) == 3


def _concatenated(graph: ir.Graph, parts: list[ir.Value], axis: int) -> ir.Value:
    """One initializer made of several, put together only when it is written."""
    name = "+".join(
        [str(parts[0].name), *(str(p.name).split(".")[-2] if "." in str(p.name) else str(p.name) for p in parts[1:])]
    )
    tensors = [p.const_value for p in parts]
    shape = list(parts[0].shape)  # type: ignore[arg-type]
    shape[axis] = sum(p.shape[axis] for p in parts)  # type: ignore[index,misc]
    dtype = parts[0].dtype
    assert dtype is not None

    def make() -> ir.Tensor:
        return ir.Tensor(np.concatenate([t.numpy() for t in tensors if t is not None], axis=axis), name=name)

    value = ir.Value(
        name=name,
        shape=ir.Shape(shape),
        type=ir.TensorType(dtype),
        const_value=ir.LazyTensor(make, dtype=dtype, shape=ir.Shape(shape), name=name),
    )
    graph.register_initializer(value)
    return value


def _bias_of(value: ir.Value | None) -> tuple[ir.Value, ir.Value] | None:
    """`x, b` where `value` is `x + b` with a trained vector b and nothing else reads it."""
    add = producer(value, "Add")
    if add is None or value is None or len(consumers(value)) != 1:
        return None
    for bias, rest in (add.inputs, tuple(reversed(add.inputs))):
        if (
            bias is not None
            and rest is not None
            and bias.is_initializer()
            and len(dims(bias) or ()) == 1
            and not rest.is_initializer()
        ):
            return rest, bias
    return None


def _take_over(old: ir.Value, new: ir.Value) -> None:
    """`new` stands in for `old` under its name, which callers and verification know."""
    name = old.name
    replace(old, new)
    old.name = f"{name}.unfused"
    new.name = name


def _gelu(node: ir.Node) -> None:
    """The runtime's own GELU: exact without bias (faster than its biased form), tanh with the bias where there is one."""
    result = node.outputs[0]
    if attribute(node, "approximate", "none") == "tanh":
        op_type, inputs = "FastGelu", list(_bias_of(node.inputs[0]) or node.inputs)
    else:
        op_type, inputs = "Gelu", list(node.inputs)
    _take_over(
        result,
        insert(
            node, op_type, inputs, name=f"{result.name}.fused", domain=CONTRIB, dtype=result.dtype, shape=result.shape
        ),
    )


def _check(graph: ir.Graph) -> None:
    for node in nodes(graph, "Attention", "Gelu"):
        if node.domain == "":
            raise TargetError(f"node {node.name!r} ({node.op_type}) was not lowered to ONNX Runtime's own operator")
