"""Insert Headway's own attention into a graph for TensorRT: one node per layer, which a plugin computes (`kernels/tensorrt_plugin`).

The plugin takes padding as lengths: the position of a text's last token, computed once from the mask. That is right where all padding
comes after the text. Where it does not, the queries of the first attention are set to NaN, and so are the text's outputs: other
programs than Headway may run an engine, and must not get wrong outputs silently.

Attention with int8 probabilities keeps TensorRT's two matmuls; the plugin computes the softmax between.
"""

from dataclasses import dataclass, field
from typing import Any

import numpy as np
import onnx_ir as ir

from ....kernels.tensorrt_plugin import NAMESPACE, attention_node, softmax_node
from ....kernels.triton.configs import HEAD_DIMS
from ...graph.edit import attribute_float, attribute_int, dims, initializer, insert
from ..attention_terms import Terms, refusal, terms_of

F32, I64 = ir.DataType.FLOAT, ir.DataType.INT64


@dataclass
class OwnKernels:
    """Insert the nodes of the plugins. `longest`: the longest sequence, in tokens.

    Lengths and biases by position are computed once for all attentions.
    """

    longest: int
    attentions: int = 0
    softmaxes: int = 0
    _lengths: dict[ir.Value, ir.Value] = field(default_factory=dict)
    _biases: dict[tuple[ir.Value | None, ir.Value | None], ir.Value] = field(default_factory=dict)

    def attention(self, graph: ir.Graph, node: ir.Node, stem: str) -> ir.Value:
        """Return the output of a canonical `Attention` by the plugin, `[batch, sequence, heads * head_dim]`.

        Raise TargetError for an attention that the kernels do not compute.
        """
        node.name = stem  # by which a refusal names it
        terms = terms_of(node)
        q, k, v = node.inputs[:3]
        heads, width = attribute_int(node, "q_num_heads"), (dims(q) or [None])[-1]
        low, high = HEAD_DIMS
        if width is None or width % heads or not low <= width // heads <= high:
            raise refusal(node, f"its heads are {width}/{heads} wide, {low} to {high} are computed")
        if terms.mask not in self._lengths:
            self._lengths[terms.mask], flaw = _lengths(graph, node, terms.mask)
            shape = q.shape if q is not None else None
            q = insert(node, "Add", [q, flaw], name=f"{stem}.q.checked", dtype=F32, shape=shape)
        inputs = [q, k, v, self._lengths[terms.mask]]
        if terms.position is not None or terms.band is not None:
            inputs.append(self._bias(graph, node, terms))
        plugin = attention_node(
            inputs,
            heads=heads,
            head_dim=width // heads,
            scale=attribute_float(node, "scale"),
            causal=bool(attribute_int(node, "is_causal", 0)),
            padded=True,
            name=f"{stem}.joined",
        )
        self._put(graph, node, plugin)
        self.attentions += 1
        return plugin.outputs[0]

    def softmax(self, graph: ir.Graph, before: ir.Node, scores: ir.Value, bias: ir.Value, name: str) -> ir.Value:
        """Return the softmax of scores plus bias by the plugin; both have four axes."""
        plugin = softmax_node([scores, bias], scale=1.0, longest=self.longest, name=name)
        self._put(graph, before, plugin)
        self.softmaxes += 1
        return plugin.outputs[0]

    def _put(self, graph: ir.Graph, before: ir.Node, plugin: ir.Node) -> None:
        graph.insert_before(before, plugin)
        graph.opset_imports[NAMESPACE] = 1

    def _bias(self, graph: ir.Graph, node: ir.Node, terms: Terms) -> ir.Value:
        """Return the bias that depends on positions alone, `[heads or 1, positions, positions]`."""
        key = terms.position, terms.band
        if key not in self._biases:
            parts: list[ir.Value] = []
            first = initializer(graph, "first_axis", np.array([0]))
            for value in (v for v in key if v is not None):
                shape, name = list(value.shape or []), f"{value.name}.by_position"
                if len(shape) == 2:
                    value = insert(node, "Unsqueeze", [value, first], name=name, dtype=F32, shape=[1, *shape])
                elif len(shape) == 4:
                    value = insert(node, "Squeeze", [value, first], name=name, dtype=F32, shape=shape[1:])
                parts.append(value)
            if len(parts) == 2:
                name = f"{parts[0].name}.with_window"
                parts = [insert(node, "Add", parts, name=name, dtype=F32, shape=parts[0].shape)]
            self._biases[key] = parts[0]
        return self._biases[key]


def _lengths(graph: ir.Graph, before: ir.Node, mask: ir.Value) -> tuple[ir.Value, ir.Value]:
    """Return where each text of a mask `[batch, sequence]` ends, int32 `[batch]`, and whether padding comes before its end.

    The second is `[batch, 1, 1]`: NaN where padding comes before, else 0. A text ends at its last token; where the mask counts as many
    tokens as that position, none is missing before.
    """
    batch, length = mask.shape if mask.shape is not None else ("batch", "sequence")

    def add(op: str, inputs: list, name: str, shape: list, dtype: ir.DataType = F32, **attributes: Any) -> ir.Value:
        stem = f"{mask.name}.{name}"
        return insert(before, op, inputs, name=stem, dtype=dtype, shape=shape, **attributes)

    first, along = initializer(graph, "one_token", np.array(1)), initializer(graph, "along_tokens", np.array([1]))
    real = add("Cast", [mask], "kept", [batch, length], to=int(F32))
    columns = add("Squeeze", [add("Shape", [mask], "columns", [1], I64, start=1, end=2)], "column_count", [], I64)
    places = add("Range", [first, add("Add", [columns, first], "end", [], I64), first], "places", [length], I64)
    reached = add("Mul", [real, add("Cast", [places], "place", [length], to=int(F32))], "reached", [batch, length])
    last = add("ReduceMax", [reached, along], "last", [batch], keepdims=0)
    count = add("ReduceSum", [real, along], "count", [batch], keepdims=0)
    flaw = add("Sqrt", [add("Sub", [count, last], "short_of", [batch])], "flaw", [batch])
    spread = initializer(graph, "behind_batch", np.array([1, 2]))
    lengths = add("Cast", [last], "lengths", [batch], ir.DataType.INT32, to=int(ir.DataType.INT32))
    return lengths, add("Unsqueeze", [flaw, spread], "checked", [batch, 1, 1])
