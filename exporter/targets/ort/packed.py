"""Rewrite the encoder of an ONNX Runtime graph to run on `[tokens, hidden]`, so that no work is done on padding.

Padding is removed after the embeddings. Attention becomes `headway.PackedAttention`; every operator that treats tokens one by one
runs on packed tokens as it is. Padding is restored only where whole sequences are needed, as for outputs per token. First tokens and
masked means are taken from packed tokens. Weights keep their names; values get the suffix `.packed`.
"""

from dataclasses import dataclass
from typing import Any

import numpy as np
import onnx_ir as ir

from ....errors import TargetError
from ....kernels.cpu import DOMAIN
from ...graph.anatomy import Anatomy
from ...graph.edit import (
    attribute_float,
    attribute_int,
    constant,
    dims,
    initializer,
    insert,
    nodes,
    producer,
    remove_unused,
)
from ...graph.head_layout import repeat_shared_heads
from ...graph.parts import UNREAD
from ..attention_terms import Terms, refusal, terms_of

_UNARY = (
    *(
        "Gelu",
        "FastGelu",
        "QuickGelu",
        "Relu",
        "Tanh",
        "Sigmoid",
        "Erf",
        "Swish",
        "Mish",
        "Elu",
        "LeakyRelu",
        "HardSwish",
    ),
    *("Softplus", "Neg", "Abs", "Sqrt", "Exp", "Cast", "Identity", "DynamicQuantizeLinear"),
)

_BROADCAST = ("Add", "Sub", "Mul", "Div", "Max", "Min", "Pow", "QuantizeLinear", "DequantizeLinear", "Clip")
_BY_TOKEN = (  # matmuls with weights: the first input has tokens, and perhaps a residual
    *("MatMul", "MatMulInteger", "MatMulNBits", "MatMulIntegerToFloat", "DynamicQuantizeMatMul", "QLinearMatMul"),
    *("QuantizedLinear", "QuantizedFeedForward", "Bfloat16Linear", "Bfloat16FeedForward"),
)

_NORMS = ("LayerNormalization", "RMSNormalization", "SimplifiedLayerNormalization")
_LAST_AXIS = ("Split", "Concat", "Softmax")
_BY_AXES = ("Squeeze", "Unsqueeze")


@dataclass
class Packing:
    """How many attentions run on packed tokens, how often padding is removed and restored, and how many poolings there are."""

    packed_attention: int
    removed: int
    restored: int
    pooled: int


def pack_tokens(model: ir.Model, anatomy: Anatomy) -> Packing:
    """Pack a canonical model in place. Raise TargetError naming the attention that cannot run on packed tokens."""
    graph = model.graph
    fused = [n for n in nodes(graph, "Attention") if n.domain == ""]
    unread = next((n for n in fused if UNREAD in n.meta), None)
    if unread is not None:
        raise refusal(unread, str(unread.meta[UNREAD]))
    for node in fused:
        repeat_shared_heads(graph, node)
    attentions = {n: terms_of(n) for n in fused}
    mixed = [b.attention.node for b in anatomy.blocks if b.attention is not None and b.attention.disentangled]
    if mixed:
        raise refusal(mixed[0], "its scores have disentangled terms")
    if not attentions:
        raise TargetError(
            "nothing to pack: the model has no attention; export it with `kernels: stock` (--kernels stock)"
        )
    graph.sort()
    graph.opset_imports[DOMAIN] = 1
    packer = _Packer(graph, attentions)
    for node in list(graph):
        packer.visit(node)
    packer.finish()
    remove_unused(model)
    graph.sort()
    return Packing(
        *(len(nodes(graph, kind)) for kind in ("PackedAttention", "RemovePadding", "RestorePadding", "PoolTokens"))
    )


class _Packer:
    """Visit nodes in order of execution, and note for each value per token its packed twin.

    `packed`: value → twin. `scalars`: values without tokens that depend on packed ones (ranges of dynamic quantization).
    `padded_too`: values whose padded form exists beside the packed one.
    """

    def __init__(self, graph: ir.Graph, attentions: dict[ir.Node, Terms]):
        self.graph = graph
        self.attentions = attentions
        masks = {b.mask for b in attentions.values()}
        if len(masks) > 1:
            raise TargetError(
                f"attentions have different masks {sorted(str(m.name) for m in masks)}: export with `kernels: stock` (--kernels stock)"
            )
        (self.mask,) = masks
        self.ordered = any(b.position is not None or b.window is not None for b in attentions.values())
        self.packed: dict[ir.Value, ir.Value] = {}
        self.scalars: set[ir.Value] = set()
        self.padded_too: set[ir.Value] = set()
        self.padded: dict[ir.Value, ir.Value] = {}
        self.ends: ir.Value | None = None

    def visit(self, node: ir.Node) -> None:
        inputs = [v for v in node.inputs if v is not None]
        if node in self.attentions:
            self._attention(node)
        elif any(v in self.packed and v not in self.padded_too for v in inputs) and not (
            self._pooled(node) or self._rewrite(node)
        ):
            for i, value in enumerate(node.inputs):
                if value is not None and value in self.packed:
                    node.replace_input_with(i, self._padded_of(value, node))

    def finish(self) -> None:
        """Restore the padding of outputs per token, under their own names; a graph that needs order refuses other masks."""
        for i, output in enumerate(self.graph.outputs):
            if output in self.packed and output not in self.padded_too:
                name, old = output.name, output
                last = list(self.graph)[-1]
                new = self._padded_of(old, last)
                old.name, new.name = f"{name}.unpacked", name
                self.graph.outputs[i] = new
        for node in nodes(self.graph, "RemovePadding"):
            node.attributes["ordered"] = ir.AttrInt64("ordered", int(self.ordered))

    def _attention(self, node: ir.Node) -> None:
        bias = self.attentions[node]
        q, k, v = (self._packed_of(x, node) for x in node.inputs[:3] if x is not None)
        assert self.ends is not None
        settings: dict[str, Any] = {
            "heads": attribute_int(node, "q_num_heads"),
            "scale": attribute_float(node, "scale"),
            "causal": attribute_int(node, "is_causal", 0),
        }
        if bias.window is not None:
            settings["window"] = bias.window
        inputs = [q, k, v, self.ends, *([bias.position] if bias.position is not None else [])]
        self._put(node, node.outputs[0], "PackedAttention", inputs, domain=DOMAIN, **settings)

    def _rewrite(self, node: ir.Node) -> bool:
        """Insert a packed twin before a node that treats tokens one by one; return False where the node does not."""
        plan = self._plan(node)
        if plan is None:
            return False
        if isinstance(plan, ir.Value):  # a slice of everything
            self.packed[node.outputs[0]] = self._packed_of(plan, node)
            return True
        inputs: list[ir.Value | None] = []
        for original, value in zip(node.inputs, plan.inputs, strict=False):
            if value is not None and value is original and self._has_tokens(value):
                inputs.append(self._packed_of(value, node))
            else:
                inputs.append(None if value is None else self.packed.get(value, value))
        twin = ir.node(
            node.op_type,
            inputs,
            attributes=dict(node.attributes) | plan.attributes,
            domain=node.domain,
            num_outputs=len(node.outputs),
            name=f"{node.name}.packed",
        )
        for old, new in zip(node.outputs, twin.outputs, strict=True):
            self._describe(old, new)
            if not self._has_tokens(old):
                self.scalars.add(old)
        self.graph.insert_before(node, twin)
        return True

    def _plan(self, node: ir.Node) -> "ir.Value | _Plan | None":
        """Return the inputs and attributes of a node on packed tokens, or the value that it equals; None where it has no such form."""
        inputs = [v for v in node.inputs if v is not None]
        tokens = [v for v in inputs if self._has_tokens(v)]
        others = [v for v in inputs if v not in tokens]
        if not tokens:
            return None
        plain = _Plan(list(node.inputs), {})
        rank = len(tokens[0].shape or ())
        kind = node.op_type
        if kind in _UNARY:
            return plain
        if kind in _BY_TOKEN and tokens[0] is node.inputs[0] and rank == 3:
            return plain
        if kind in _BROADCAST and len({len(v.shape or ()) for v in tokens}) == 1:
            flat = [v if v is None or v in tokens else self._without_ones(v) for v in node.inputs]
            fits = all((f is None) == (v is None) for f, v in zip(flat, node.inputs, strict=True))
            return _Plan(flat, {}) if fits and attribute_int(node, "axis", -1) in (-1, 1) else None
        if kind in _NORMS and tokens == [node.inputs[0]] and attribute_int(node, "axis", -1) in (-1, rank - 1):
            return _Plan(list(node.inputs), {"axis": ir.AttrInt64("axis", -1)})
        if kind in _LAST_AXIS and len(tokens) == len(inputs) - (kind == "Split" and len(inputs) == 2):
            axis = attribute_int(node, "axis", 0 if kind == "Split" else -1)
            return (
                _Plan(list(node.inputs), {"axis": ir.AttrInt64("axis", -1)})
                if axis in (-1, rank - 1) and rank > 2
                else None
            )
        if kind in _BY_AXES and len(others) == 1:
            axes = constant(others[0])
            if axes is None or any(a in (0, 1) or -rank <= a < 2 - rank for a in axes.ravel()):
                return None
            moved = np.where(axes > 0, axes - 1, axes).astype(np.int64)
            name = f"packed_axes_{'_'.join(map(str, moved.ravel()))}"
            return _Plan([node.inputs[0], initializer(self.graph, name, moved)], {})
        if kind == "Slice":
            return self._slice(node, rank)
        return None

    def _slice(self, node: ir.Node, rank: int) -> "ir.Value | _Plan | None":
        """Return the plan of a slice of features on packed axes; a slice of everything is its own input."""
        given = [constant(v) for v in node.inputs[1:]]
        if any(g is None for g in given) or len(given) < 3 or node.inputs[0] is None:
            return None
        starts, ends, axes, *steps = [np.asarray(g).ravel() for g in given]
        axes = np.where(axes < 0, axes + rank, axes)
        everything = (starts == 0) & (ends >= np.iinfo(np.int32).max) & (np.all(steps[0] == 1) if steps else True)
        if everything.all():
            return node.inputs[0]
        if (axes < 2).any():
            return None
        moved = initializer(self.graph, f"packed_axes_{'_'.join(map(str, axes - 1))}", (axes - 1).astype(np.int64))
        return _Plan([*node.inputs[:3], moved, *node.inputs[4:]], {})

    def _without_ones(self, value: ir.Value) -> ir.Value | None:
        """Return a value that is broadcast over tokens, without leading axes of length 1; None where it differs per token."""
        if value in self.scalars:
            return value
        shape = dims(value)
        if shape is None:
            return None
        if len(shape) <= 1:
            return value
        array = constant(value)
        if array is None or any(d != 1 for d in shape[:-1]):
            return None
        return initializer(self.graph, f"{value.name}.flat", array.reshape(-1))

    def _pooled(self, node: ir.Node) -> bool:
        """Take first tokens, and sums of tokens weighted by the mask, from packed tokens; return False for other nodes."""
        source, mode = node.inputs[0], None
        if source is None or len(source.shape or ()) != 3:
            return False
        if node.op_type == "Gather" and source in self.packed and attribute_int(node, "axis", 0) == 1:
            index = constant(node.inputs[1])
            if index is not None and index.ndim == 0 and int(index) == 0:
                mode, self.ordered = "first", True
        elif node.op_type == "ReduceSum" and not attribute_int(node, "keepdims", 1):
            axes = constant(node.inputs[1]) if len(node.inputs) > 1 else None
            weighted = producer(source, "Mul")
            if axes is not None and axes.ravel().tolist() in ([1], [-2]) and weighted is not None:
                for states, weight in (weighted.inputs, tuple(reversed(weighted.inputs))):
                    if states is not None and states in self.packed and weight is not None and self._is_mask(weight):
                        source, mode = states, "sum"
        if mode is None:
            return False
        x = self._packed_of(source, node)
        assert self.ends is not None
        result = node.outputs[0]
        y = insert(
            node,
            "PoolTokens",
            [x, self.ends],
            name=f"{result.name}.pooled",
            domain=DOMAIN,
            dtype=result.dtype,
            shape=result.shape,
            mode=mode,
        )
        ir.convenience.replace_all_uses_with(result, y, replace_graph_outputs=True)
        return True

    def _is_mask(self, value: ir.Value) -> bool:
        while value is not self.mask:
            node = producer(value, "Cast", "Unsqueeze", "Expand", "Identity")
            if node is None or node.inputs[0] is None:
                return False
            value = node.inputs[0]
        return True

    def _has_tokens(self, value: ir.Value) -> bool:
        """Return whether a value is `[batch, sequence, …]`, with an entry for each token of the mask."""
        shape, mask = value.shape, self.mask.shape
        if value.is_initializer() or shape is None or mask is None or len(shape) < 2 or isinstance(shape[0], int):
            return False
        return shape[1] == mask[1] and value not in self.scalars

    def _packed_of(self, value: ir.Value, anchor: ir.Node) -> ir.Value:
        """Return the packed twin of a value per token.

        What is computed from one other such value alone is computed on packed tokens too.
        """
        if value in self.packed:
            return self.packed[value]
        node = value.producer()
        self.padded_too.add(value)
        if node is not None and len(node.outputs) == 1 and node not in self.attentions:
            plan = self._plan(node)
            tokens = [v for v in node.inputs if v is not None and self._has_tokens(v)]
            if (
                isinstance(plan, _Plan)
                and len(set(tokens)) == 1
                and (value.shape is None or len(tokens[0].shape or ()) == 3)
            ):
                self._packed_of(tokens[0], node)
                self._rewrite(node)
                return self.packed[value]
        removed = ir.node(
            "RemovePadding", [value, self.mask], domain=DOMAIN, num_outputs=2, name=f"{value.name}.packed"
        )
        packed, ends = removed.outputs
        self._describe(value, packed)
        ends.name, ends.type, ends.shape = (
            f"{value.name}.cu_seqlens",
            ir.TensorType(ir.DataType.INT32),
            ir.Shape([None]),
        )
        self.ends = self.ends or ends
        self.graph.insert_before(anchor, removed)
        return packed

    def _padded_of(self, value: ir.Value, anchor: ir.Node) -> ir.Value:
        if value in self.padded_too:
            return value
        if value in self.scalars:
            return self.packed[value]
        if value not in self.padded:
            inputs = [self.packed[value], self.mask]
            name = f"{value.name}.padded"
            self.padded[value] = insert(
                anchor, "RestorePadding", inputs, name=name, dtype=value.dtype, shape=value.shape, domain=DOMAIN
            )
        return self.padded[value]

    def _put(self, node: ir.Node, old: ir.Value, op_type: str, inputs: list[ir.Value], **settings: Any) -> None:
        new = insert(node, op_type, inputs, name=f"{old.name}.packed", **settings)
        self._describe(old, new)

    def _describe(self, old: ir.Value, new: ir.Value) -> None:
        """Note that `new` holds the tokens of `old`."""
        new.name, new.type = f"{old.name}.packed", old.type
        if old.shape is not None:
            new.shape = ir.Shape(["tokens", *list(old.shape)[2:]]) if self._has_tokens(old) else old.shape
        self.packed[old] = new


@dataclass
class _Plan:
    inputs: list[ir.Value | None]
    attributes: dict[str, ir.Attr]
