"""Give every node of a graph a dtype: float16 or bfloat16 where that is safe, else float32, with Casts between.

A strongly typed engine takes its precision from the graph alone, so what may overflow has to be float32 here. The reasons for float32,
of which the first that applies to a node is noted:

* `position`: what does not depend on token ids (mask arithmetic, rotary angles) is small, and exact in float32;
* `operator`: sums and powers of activations (norms, GELU, reductions) leave the range of float16 long before their outputs do;
* `constant`: a weight beyond the low dtype, a bound that would become 0, or a quantization scale held to less than 8 bits;
* `range`: an input or output that came within a factor of 2 of the low dtype's largest number on calibration data.
"""

from collections.abc import Mapping
from dataclasses import dataclass, field

import ml_dtypes
import numpy as np
import onnx_ir as ir

from ....errors import TargetError
from ...graph.anatomy import content_values
from ...graph.edit import constant, consumers, initializer

_SUMS = {f"Reduce{kind}" for kind in ("Sum", "Mean", "L1", "L2", "SumSquare", "LogSum", "LogSumExp")} | {"CumSum"}
_NORMS = {"LayerNormalization", "RMSNormalization", "LpNormalization"}
_CURVES = {"Gelu", "Erf", "Exp", "Log", "Pow", "Sqrt", "Softplus", "Mish", "Sin", "Cos"}
FLOAT32_OPERATORS = frozenset(_SUMS | _NORMS | _CURVES)
_FEW = 16
"""In a constant of so few numbers none may become 0 (a bound of 1e-12); in a weight matrix small ones may."""

_STEPPED = ("QuantizeLinear", "DequantizeLinear")
HEADROOM = 2.0
"""Activations on later text may exceed those on calibration data."""

FLOAT = ir.DataType.FLOAT
NUMPY = {
    FLOAT: np.dtype(np.float32),
    ir.DataType.FLOAT16: np.dtype(np.float16),
    ir.DataType.BFLOAT16: np.dtype(ml_dtypes.bfloat16),
}

Maxima = Mapping[str, float]
"""Largest absolute activation observed of each float value, by its name."""


@dataclass
class Precision:
    """What was decided: `in_float32` maps the name of each node that stays float32 to the reason."""

    low: ir.DataType
    in_float32: dict[str, str] = field(default_factory=dict)
    casts: int = 0

    def count(self) -> dict[str, int]:
        """Return how many nodes stay float32, by reason."""
        reasons = list(self.in_float32.values())
        return {f"float32_{reason}": reasons.count(reason) for reason in sorted(set(reasons))}


def assign(model: ir.Model, low: ir.DataType, maxima: Maxima, *, rules: bool = True) -> Precision:
    """Assign dtypes to a float32 graph in place, in topological order; its inputs and outputs keep theirs.

    `rules=False` makes everything `low`, to show what the rules prevent. Raise TargetError for a node with sub-graphs.
    """
    typing = _Typing(model.graph, low, maxima if rules else {}, rules)
    for node in list(model.graph):
        typing.visit(node)
    typing.restore_outputs()
    return typing.decided


class _Typing:
    def __init__(self, graph: ir.Graph, low: ir.DataType, maxima: Maxima, rules: bool):
        self.graph, self.low, self.maxima, self.rules = graph, low, maxima, rules
        self.limit = float(ml_dtypes.finfo(NUMPY[low]).max)
        self.finest = 256 * float(ml_dtypes.finfo(NUMPY[low]).smallest_subnormal)
        self.content = content_values(graph)
        self.decided = Precision(low)
        self._made: dict[tuple[ir.Value, ir.DataType], ir.Value] = {}
        self._sources = {v: constant(v) for v in graph.initializers.values() if v.dtype == FLOAT}

    def visit(self, node: ir.Node) -> None:
        if any(a.type in (ir.AttributeType.GRAPH, ir.AttributeType.GRAPHS) for a in node.attributes.values()):
            raise TargetError(f"node {node.name!r} ({node.op_type}) has sub-graphs, which cannot be typed")
        floats = [v for v in node.inputs if v is not None and v.dtype in NUMPY]
        results = [v for v in node.outputs if v.dtype == FLOAT]
        if not floats and not results:
            return
        reason = self._reason(node, floats, results)
        if reason is not None:
            self.decided.in_float32[str(node.name)] = reason
        dtype = self.low if reason is None else FLOAT
        for i, value in enumerate(node.inputs):
            if value is not None and value.dtype in NUMPY:
                node.replace_input_with(i, self._as(value, dtype, node))
        if node.op_type == "Cast" and results:
            node.attributes["to"] = ir.AttrInt64("to", int(dtype))
        for value in results:
            value.type = ir.TensorType(dtype)

    def _reason(self, node: ir.Node, floats: list[ir.Value], results: list[ir.Value]) -> str | None:
        if not self.rules:
            return None
        if not any(v in self.content for v in node.outputs) and not _reads_weights(node):
            return "position"
        if node.op_type in FLOAT32_OPERATORS:
            return "operator"
        for value in floats:
            array = self._sources.get(value)
            if array is not None and not self._holds(array, stepped=node.op_type in _STEPPED):
                return "constant"
        if any(HEADROOM * self.maxima.get(str(v.name), 0.0) >= self.limit for v in (*floats, *results)):
            return "range"
        return None

    def _holds(self, array: np.ndarray, *, stepped: bool) -> bool:
        """Return whether the low dtype holds an array: nothing overflows, and no divisor becomes 0."""
        if not np.abs(array).max(initial=0.0) < self.limit:
            return False
        if stepped:
            return bool(np.abs(array).min(initial=1.0) >= self.finest)
        return array.size > _FEW or not ((array != 0) & (array.astype(NUMPY[self.low]) == 0)).any()

    def _as(self, value: ir.Value, dtype: ir.DataType, reader: ir.Node) -> ir.Value:
        """Return `value` in `dtype`: itself, a converted weight, or a Cast after the node that makes it."""
        if value.dtype == dtype:
            return value
        key = value, dtype
        if key not in self._made:
            array = self._sources.get(value)
            if array is not None:
                self._made[key] = initializer(self.graph, f"{value.name}.{_short(dtype)}", array.astype(NUMPY[dtype]))
            else:
                self._made[key] = self._cast(value, dtype, reader)
        return self._made[key]

    def _cast(self, value: ir.Value, dtype: ir.DataType, reader: ir.Node) -> ir.Value:
        name = f"{value.name}.{_short(dtype)}"
        node = ir.node("Cast", [value], attributes={"to": int(dtype)}, name=name)
        out = node.outputs[0]
        out.name, out.shape, out.type = name, value.shape, ir.TensorType(dtype)
        producer = value.producer()
        if producer is None:
            self.graph.insert_before(reader, node)
        else:
            self.graph.insert_after(producer, node)
        self.decided.casts += 1
        return out

    def restore_outputs(self) -> None:
        """Make the outputs of the graph float32 again, under their own names."""
        for i, value in enumerate(self.graph.outputs):
            producer = value.producer()
            if value.dtype != self.low or producer is None:
                continue
            name = value.name
            value.name = f"{name}.{_short(self.low)}"
            out = self._made.get((value, FLOAT)) or self._cast(value, FLOAT, producer)
            out.name = name
            self.graph.outputs[i] = out
        for value in [v for v in self._sources if not consumers(v) and v not in self.graph.outputs]:
            del self.graph.initializers[str(value.name)]
        for (value, dtype), converted in self._made.items():  # a weight in one dtype alone keeps its name
            if value in self._sources and dtype == self.low and str(value.name) not in self.graph.initializers:
                converted.name = value.name


def _reads_weights(node: ir.Node) -> bool:
    """Return whether a node looks up embeddings or multiplies by weights, int8 or not: these gain by the low dtype anywhere."""
    if node.op_type == "DequantizeLinear":
        return node.inputs[0] is not None and node.inputs[0].is_initializer()
    return node.op_type in ("Gather", "MatMul") and any(
        v is not None and v.is_initializer() and len(v.shape or ()) == 2 for v in node.inputs
    )


def _short(dtype: ir.DataType) -> str:
    return NUMPY[dtype].name
