"""ONNX Runtime on CPUs: its own fused operators where they are faster, weights beside the graph, session options stored.

Fused attention and the exact GELU are faster on a CPU. `SkipLayerNormalization` and `BiasGelu` are not: the fused skip and norm takes
several times as long as `Add` and `LayerNormalization`. Projections merged for the `Attention` operator gain less than its mask costs.
`benchmarks/fusions.py` measures all of them. Headway does not make these fusions, and keeps the runtime from making them while loading.
"""

from dataclasses import asdict, dataclass, field
from pathlib import Path
from typing import Any, Literal

import numpy as np
import onnx_ir as ir

from ....errors import TargetError, UsageError
from ....kernels.cpu import MISSING, library_path
from ....manifest import Manifest
from ....processor import X64_PRECISION
from ....runners.ort import OrtRunner
from ...graph.anatomy import Anatomy
from ...graph.edit import (
    attribute_float,
    attribute_int,
    attribute_string,
    initializer,
    insert,
    nodes,
    put,
    remove_unused,
    replace,
)
from ...graph.head_layout import repeat_shared_heads
from ...graph.mask import MASKED, PADDING_BIAS, padding_mask
from ...graph.parts import UNREAD
from ...recipe.passes import HalfSpec
from ...recipe.recipe import Recipe
from ..base import BFLOAT16_WEIGHTS, TargetSpec
from ..registry import kernels_of
from .bfloat16 import Bfloat16, lower_bfloat16
from .elementwise import Elementwise, lower_elementwise, without_bias
from .int8 import CONTRIB, Matmuls, lower_matmuls
from .packed import Packing, pack_tokens

Kernels = Literal["auto", "stock", "custom"]
MODEL_FILE = "model.onnx"
WEIGHTS_FILE = "model.onnx.data"
SPEC = TargetSpec("ort", neuron_multiple=16, rank_multiple=16, int8_recurrent=True)
"""The runtime packs weights in strips of 16 columns: a width between takes as long as the next multiple (measured)."""

FAST_ON = (
    "Processors that multiply bfloat16 (x86 with AMX or AVX-512 BF16, Arm with BF16) gain by it in every batch; others widen the weights "
    "while they read them, which gains in small batches alone."
)

SLOW_FUSIONS = ("SkipLayerNormFusion", "BiasGeluFusion")
SLOW_PACKED_FUSION = "MatMulAddFusion"
"""Makes a `Gemm` of a matmul on packed tokens and its bias. On one thread it is as fast; on two the model takes 5 % longer."""


@dataclass
class Fusions:
    """How many of each fused operator the lowering made."""

    attention: int = 0
    gelu: int = 0
    matmuls: Matmuls = field(default_factory=Matmuls)
    bfloat16: Bfloat16 = field(default_factory=Bfloat16)
    packing: Packing | None = None
    elementwise: Elementwise = field(default_factory=Elementwise)

    def as_dict(self) -> dict[str, int]:
        matmuls = {k: v for k, v in (asdict(self.matmuls) | asdict(self.bfloat16)).items() if v}
        packing = asdict(self.packing) if self.packing else {}
        elementwise = {k: v for k, v in asdict(self.elementwise).items() if v}
        return {**matmuls, "attention": self.attention, "gelu": self.gelu, **packing, **elementwise}


def lower(
    model: ir.Model,
    anatomy: Anatomy,
    kernels: Kernels = "stock",
    *,
    nibbles: bool = True,
    unsigned: bool = False,
    bfloat16: bool = False,
) -> Fusions:
    """Lower a canonical model in place; with `kernels="custom"` to packed tokens and Headway's own operators.

    "auto" uses those operators too, and packs tokens where that is possible. `nibbles` and `unsigned` as in `lower_matmuls`;
    `bfloat16`: float32 weights are stored in bfloat16, which needs those operators. Raise TargetError naming the node where an
    expected fusion did not happen, or which cannot run on packed tokens.
    """
    graph = model.graph
    graph.opset_imports[CONTRIB] = 1
    fusions = Fusions(matmuls=lower_matmuls(model, kernels=kernels != "stock", nibbles=nibbles, unsigned=unsigned))
    remove_unused(model)
    if bfloat16:
        fusions.bfloat16 = lower_bfloat16(model)
    if kernels == "custom" or (kernels == "auto" and _packs(model, anatomy)):
        fusions.packing = pack_tokens(model, anatomy)
        fusions.attention = fusions.packing.packed_attention
    lowering = _AttentionLowering(graph)
    for node in nodes(graph, "Attention") if fusions.packing is None else ():
        if node.domain == "" and UNREAD not in node.meta:
            lowering.lower(node)
            fusions.attention += 1
    if kernels != "stock":
        fusions.elementwise = lower_elementwise(model)
        remove_unused(model)
    for node in nodes(graph, "Gelu"):
        _gelu(node)
        fusions.gelu += 1
    remove_unused(model)
    graph.sort()
    _check(graph)
    return fusions


def write(model: ir.Model, directory: Path) -> None:
    """Write the graph and, beside it, its weights, which are streamed: one tensor is in memory at a time."""
    ir.save(model, directory / MODEL_FILE, external_data=WEIGHTS_FILE)


def session_options(*, regroup: bool, kernels: Kernels = "stock") -> dict[str, Any]:
    """Return what a bundle stores for its runner: all levels of optimization, without the fusions that are slower.

    `regroup`: a batch of mixed lengths may be run as several, which needs outputs that do not depend on padding. On packed tokens
    nothing is gained by it. On processors that add products of bytes with saturation (x86 without VNNI) the runtime is told to
    compute exactly; the runner leaves that out elsewhere, where it would only be slower.
    """
    options = {
        "graph_optimization_level": "all",
        "disabled_optimizers": [*SLOW_FUSIONS, *([SLOW_PACKED_FUSION] if kernels != "stock" else [])],
        "regroup": regroup,
        "config": {X64_PRECISION: "1", "session.disable_quant_qdq": "1"},
    }
    return options | ({"kernels": True} if kernels != "stock" else {})


def _packs(model: ir.Model, anatomy: Anatomy) -> bool:
    """Return whether a model can run on packed tokens. A copy is tried, since a refusal leaves a model half rewritten."""
    try:
        pack_tokens(model.clone(), anatomy)
    except TargetError:
        return False
    return True


def open_runner(model: Path, options: dict[str, Any], threads: int | None = None) -> OrtRunner:
    """Open a written artifact as a bundle would."""
    return OrtRunner(model, options, threads)


def files(directory: Path) -> list[Path]:
    """Return the files of a written artifact."""
    return [p for name in (MODEL_FILE, WEIGHTS_FILE) if (p := directory / name).is_file()]


@dataclass(frozen=True)
class OrtTarget:
    """Target `ort`: ONNX Runtime on CPUs."""

    spec: TargetSpec = SPEC
    artifact: str = MODEL_FILE
    dtype: str = "float32"
    kernels: Kernels = "stock"

    def available(self) -> str | None:
        return MISSING if self.kernels != "stock" and library_path() is None else None

    def lower(self, model: ir.Model, anatomy: Anatomy, text: object = None) -> dict[str, int]:
        return lower(model, anatomy, self.kernels, bfloat16=self.dtype == BFLOAT16_WEIGHTS).as_dict()

    def build(self, model: ir.Model, directory: Path, text: object = None) -> None:
        write(model, directory)

    def files(self, directory: Path) -> list[Path]:
        return files(directory)

    def options(self, *, regroup: bool) -> dict[str, Any]:
        return session_options(regroup=regroup, kernels=self.kernels)

    def open(self, directory: Path, options: dict[str, Any], threads: int | None = None) -> OrtRunner:
        return open_runner(directory / self.artifact, options, threads)

    def record(self, directory: Path) -> dict[str, Any] | None:
        return {"weights": "bfloat16", "processors": FAST_ON} if self.dtype == BFLOAT16_WEIGHTS else None

    def finish(self, directory: Path, manifest: Manifest) -> None:
        pass


def ort_target(recipe: Recipe) -> OrtTarget:
    """Return the target that a recipe describes. UsageError where its weights would have two types of 16 bits."""
    if recipe.dtype != "bf16":
        return OrtTarget(kernels=kernels_of(recipe))
    half = next((p for p in recipe.passes if isinstance(p, HalfSpec)), None)
    if half is not None:
        raise UsageError(
            f"pass {half.kind} stores the weights as float16, and dtype bf16 as bfloat16: leave the pass out, or dtype (--dtype)"
        )
    return OrtTarget(kernels=kernels_of(recipe), dtype=BFLOAT16_WEIGHTS)


def card_lines(manifest: Manifest) -> list[str]:
    """Return the card's lines on what processors weights in bfloat16 are fast on."""
    if (manifest.engine or {}).get("weights") != "bfloat16":
        return []
    return ["", f"Weights are stored as bfloat16. {FAST_ON}"]


@dataclass(frozen=True)
class _Padding:
    """The mask as int32 `[batch, sequence]`; a boolean scalar, true without padding; a float `[batch, 1, 1]`, 0 for empty rows."""

    mask: ir.Value
    full: ir.Value
    filled: ir.Value


class _AttentionLowering:
    """Lower the attentions of one graph to `MultiHeadAttention`.

    Without a mask the runtime uses its tiled kernel, which is several percent faster, and a batch without padding needs no mask.
    So the graph tests the padding mask once, and each attention runs with it only where the batch has padding.
    """

    def __init__(self, graph: ir.Graph):
        self.graph = graph
        self._padding: _Padding | None = None

    def lower(self, node: ir.Node) -> None:
        """Replace one canonical attention."""
        repeat_shared_heads(self.graph, node)  # the runtime's operator has no grouped queries without a cache
        bias = node.inputs[3] if len(node.inputs) > 3 else None
        result = node.outputs[0]
        stem = f"{result.name}.fused"
        heads = node.inputs[:3]
        if bias is None or bias.name != PADDING_BIAS:
            inputs = [*heads, None, None, bias] if bias is not None else list(heads)
            replace(
                result,
                insert(node, "MultiHeadAttention", inputs, name=stem, domain=CONTRIB, **self._common(node, result)),
            )
            return
        padding = self._padding_of(bias, node)
        branches = {
            "then_branch": self._branch(node, f"{stem}.then_branch", list(heads)),
            "else_branch": self._branch(node, f"{stem}.else_branch", [*heads, None, padding.mask], padding.filled),
        }
        choice = ir.node("If", [padding.full], attributes=branches, name=stem)
        choice.outputs[0].name = stem
        self.graph.insert_before(node, choice)
        replace(result, choice.outputs[0])

    def _common(self, node: ir.Node, result: ir.Value) -> dict[str, Any]:
        return {
            "dtype": ir.DataType.FLOAT,
            "shape": result.shape,
            "num_heads": attribute_int(node, "q_num_heads"),
            "scale": attribute_float(node, "scale"),
            "mask_filter_value": MASKED,
            "unidirectional": attribute_int(node, "is_causal", 0),
        }

    def _branch(
        self, node: ir.Node, name: str, inputs: list[ir.Value | None], filled: ir.Value | None = None
    ) -> ir.Graph:
        """Return a sub-graph with one attention, which reads its inputs from outside. Rows that are not `filled` give zeros."""
        common = self._common(node, node.outputs[0])
        dtype, shape = common.pop("dtype"), common.pop("shape")
        inner = ir.node("MultiHeadAttention", inputs, domain=CONTRIB, attributes=common, name=name)
        own = [inner]
        if filled is not None:
            inner.outputs[0].name = f"{name}.attention"
            own.append(ir.node("Mul", [inner.outputs[0], filled], name=f"{name}.filled"))
        for each in own:
            each.outputs[0].type, each.outputs[0].shape = ir.TensorType(dtype), shape
        out = own[-1].outputs[0]
        out.name = name
        return ir.Graph([], [out], nodes=own, name=name)

    def _padding_of(self, bias: ir.Value, anchor: ir.Node) -> _Padding:
        """Return what the graph says of padding, computed once."""
        if self._padding is None:
            mask = padding_mask(bias)
            i32 = ir.DataType.INT32
            short = insert(
                anchor, "Cast", [mask], name="attention_mask.int32", dtype=i32, shape=mask.shape, to=int(i32)
            )
            least = insert(anchor, "ReduceMin", [short], name="attention_mask.least", dtype=i32, shape=[], keepdims=0)
            to = int(ir.DataType.BOOL)
            full = insert(anchor, "Cast", [least], name="attention_mask.full", dtype=ir.DataType.BOOL, shape=[], to=to)
            self._padding = _Padding(short, full, self._filled(short, anchor))
        return self._padding

    def _filled(self, mask: ir.Value, anchor: ir.Node) -> ir.Value:
        """Return a float `[batch, 1, 1]`: 1 for rows with a token, 0 for others, whose attention torch gives zeros."""
        batch = (mask.shape or [None])[0]
        axes = [initializer(self.graph, f"attention_mask.axis_{i}", np.array([i], np.int64)) for i in (1, 2)]
        most = insert(
            anchor, "ReduceMax", [mask, axes[0]], name="attention_mask.most", dtype=mask.dtype, shape=[batch, 1]
        )
        wide = insert(
            anchor, "Unsqueeze", [most, axes[1]], name="attention_mask.any", dtype=mask.dtype, shape=[batch, 1, 1]
        )
        # By way of a boolean: a mask may hold other numbers than 0 and 1.
        for name, dtype in (("holds_tokens", ir.DataType.BOOL), ("filled", ir.DataType.FLOAT)):
            name = f"attention_mask.{name}"
            wide = insert(anchor, "Cast", [wide], name=name, dtype=dtype, shape=[batch, 1, 1], to=int(dtype))
        return wide


def _gelu(node: ir.Node) -> None:
    """Replace a GELU by the runtime's own: exact without bias (faster than with), tanh with the bias where there is one."""
    result = node.outputs[0]
    if attribute_string(node, "approximate", "none") == "tanh":
        assert node.inputs[0] is not None
        op_type, inputs = "FastGelu", list(without_bias(node.inputs[0]))
    else:
        op_type, inputs = "Gelu", list(node.inputs)
    put(node, result, op_type, inputs, domain=CONTRIB)


def _check(graph: ir.Graph) -> None:
    for node in nodes(graph, "Attention", "Gelu"):
        if node.domain == "" and UNREAD not in node.meta:
            raise TargetError(f"node {node.name!r} ({node.op_type}) was not lowered to ONNX Runtime's own operator")
