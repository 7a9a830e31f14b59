"""Headway's own attention in a graph for TensorRT: one node a layer, which a plugin computes (`kernels/tensorrt_plugin`).

The plugin knows padding by lengths: the position of a text's last token, found once from the mask. That is right where all
padding stands behind the text. Where it does not, the queries of the first attention are made NaN, and so are the text's answers:
an engine may be run by other programs than Headway, and must not be wrong in silence there either.

Attention whose probabilities are rounded to int8 keeps TensorRT's two products; the softmax between is the plugin's.
"""

from dataclasses import dataclass, field

import numpy as np
import onnx_ir as ir

from ....kernels.tensorrt_plugin import NAMESPACE, attention_node, softmax_node
from ....kernels.triton.configs import HEAD_DIMS
from ...graph.edit import attribute, dims, initializer, insert
from ..attention_terms import Terms, refusal, terms_of

F32, I64 = ir.DataType.FLOAT, ir.DataType.INT64


@dataclass
class OwnKernels:
    """Puts the nodes in. `longest` sequence in tokens; what attentions share is made once: lengths, and biases by position."""

    longest: int
    attentions: int = 0
    softmaxes: int = 0
    _lengths: dict[ir.Value, ir.Value] = field(default_factory=dict)
    _biases: dict[tuple[ir.Value | None, ir.Value | None], ir.Value] = field(default_factory=dict)

    def attention(self, graph: ir.Graph, node: ir.Node, stem: str) -> ir.Value:
        """The result of a canonical `Attention` by the plugin, `[batch, sequence, heads * head_dim]`.

        TargetError where it is one that the kernels do not compute.
        """
        node.name = stem  # by which a refusal names it
        terms = terms_of(node)
        q, k, v = node.inputs[:3]
        heads, width = int(attribute(node, "q_num_heads")), (dims(q) or [None])[-1]  # type: ignore[call-overload]
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
        made = attention_node(
            inputs,
            heads=heads,
            head_dim=width // heads,
            scale=float(attribute(node, "scale")),  # type: ignore[arg-type]
            causal=bool(attribute(node, "is_causal", 0)),
            padded=True,
            name=f"{stem}.joined",
        )
        self._put(graph, node, made)
        self.attentions += 1
        return made.outputs[0]

    def softmax(self, graph: ir.Graph, before: ir.Node, scores: ir.Value, bias: ir.Value, name: str) -> ir.Value:
        """softmax(scores + bias) by the plugin; both have four axes."""
        made = softmax_node([scores, bias], scale=1.0, longest=self.longest, name=name)
        self._put(graph, before, made)
        self.softmaxes += 1
        return made.outputs[0]

    def _put(self, graph: ir.Graph, before: ir.Node, made: ir.Node) -> None:
        graph.insert_before(before, made)
        graph.opset_imports[NAMESPACE] = 1

    def _bias(self, graph: ir.Graph, node: ir.Node, terms: Terms) -> ir.Value:
        """What depends on positions alone, `[heads or 1, positions, positions]`."""
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
    """Of a mask `[batch, sequence]`: where each text ends, int32 `[batch]`; and `[batch, 1, 1]`, 0, or NaN where padding comes before.

    A text ends at its last token; where as many tokens count as that is far, none is missing before.
    """
    batch, length = mask.shape if mask.shape is not None else ("batch", "sequence")

    def made(op: str, inputs: list, name: str, shape: list, dtype: ir.DataType = F32, **attributes: object) -> ir.Value:
        stem = f"{mask.name}.{name}"
        return insert(before, op, inputs, name=stem, dtype=dtype, shape=shape, **attributes)  # type: ignore[arg-type]

    one, along = initializer(graph, "one_token", np.array(1)), initializer(graph, "along_tokens", np.array([1]))
    kept = made("Cast", [mask], "kept", [batch, length], to=int(F32))
    columns = made("Squeeze", [made("Shape", [mask], "columns", [1], I64, start=1, end=2)], "column_count", [], I64)
    places = made("Range", [one, made("Add", [columns, one], "end", [], I64), one], "places", [length], I64)
    reached = made("Mul", [kept, made("Cast", [places], "place", [length], to=int(F32))], "reached", [batch, length])
    last = made("ReduceMax", [reached, along], "last", [batch], keepdims=0)
    count = made("ReduceSum", [kept, along], "count", [batch], keepdims=0)
    flaw = made("Sqrt", [made("Sub", [count, last], "short_of", [batch])], "flaw", [batch])
    spread = initializer(graph, "behind_batch", np.array([1, 2]))
    lengths = made("Cast", [last], "lengths", [batch], ir.DataType.INT32, to=int(ir.DataType.INT32))
    return lengths, made("Unsqueeze", [flaw, spread], "checked", [batch, 1, 1])
