"""Refuse what is left of an `.onnx` file that no reader of a form took: its numbers cannot be read exactly."""

from collections.abc import Iterable
from pathlib import Path

import onnx_ir as ir

from ...errors import SourceError

_QUANTIZED = {"DynamicQuantizeLinear", "MatMulInteger", "ConvInteger", "QLinearMatMul", "QLinearConv"}
_QUANTIZED_PARTS = (
    "QLinear",
    "QGemm",
    "QAttention",
    "QOrdered",
    "QEmbed",
    "Integer",
    "NBits",
    "DynamicQuantize",
    "Bnb4",
)
_OTHER_FLOATS = {
    ir.DataType.DOUBLE: "float64",
}


def refuse_unreadable(model: ir.Model, path: Path) -> None:
    """Raise SourceError for a graph that computes in integers of a runtime's own, or in another float type than float32."""
    quantized = [n for n in model.graph.all_nodes() if _is_quantized(n)]
    if quantized:
        first = quantized[0]
        raise SourceError(
            f"{path}: a quantized graph with operators that are not read ({_kinds(quantized)}; first: node "
            f"{first.name or first.outputs[0].name!r}): give the float32 model that it was made from, and quantize that with headway "
            "compress --quantize int8"
        )
    held = _other_floats(model)
    if held is not None:
        kind, name = held
        raise SourceError(
            f"{path}: a {kind} graph ({name} is {kind}), and graphs of float32, float16 or bfloat16 are read, since rounding cannot be "
            "told from an error: give the float32 model that it was made from"
        )


def _is_quantized(node: ir.Node) -> bool:
    if node.domain in ("", "ai.onnx"):
        return node.op_type in _QUANTIZED
    return any(part in node.op_type for part in _QUANTIZED_PARTS)


def _kinds(nodes: Iterable[ir.Node]) -> str:
    names = list(dict.fromkeys(n.op_type for n in nodes))
    return ", ".join(names[:4]) + (f" and {len(names) - 4} more" if len(names) > 4 else "")


def _other_floats(model: ir.Model) -> tuple[str, str] | None:
    """Return the first type of a trained tensor that is no float32, with the tensor's name. Single numbers do not count."""
    for value in model.graph.initializers.values():
        tensor = value.const_value
        if tensor is not None and tensor.dtype in _OTHER_FLOATS and tensor.size > 1:
            return _OTHER_FLOATS[tensor.dtype], str(value.name)
    return None
