"""Read what a node asks for: its axes, optional inputs and dtype; and refuse, by name, what torch has no counterpart for."""

from collections.abc import Callable
from typing import Any

import onnx_ir as ir
import torch

from ...errors import SourceError
from .edit import attribute_int, attribute_ints

Tensor = torch.Tensor
Operator = Callable[[ir.Node, list[Any]], Tensor | tuple[Tensor, ...]]

DTYPES = {
    ir.DataType.FLOAT: torch.float32,
    ir.DataType.FLOAT16: torch.float16,
    ir.DataType.BFLOAT16: torch.bfloat16,
    ir.DataType.DOUBLE: torch.float64,
    ir.DataType.INT64: torch.int64,
    ir.DataType.INT32: torch.int32,
    ir.DataType.INT16: torch.int16,
    ir.DataType.INT8: torch.int8,
    ir.DataType.UINT8: torch.uint8,
    ir.DataType.BOOL: torch.bool,
}


def given(x: list[Any], place: int) -> Any:
    """Return the input at `place`, or None where the node leaves it out."""
    return x[place] if len(x) > place else None


def axis_of(node: ir.Node, default: int) -> int:
    """Return the attribute `axis`, which may be negative."""
    return attribute_int(node, "axis", default)


def axes_of(node: ir.Node, x: list[Any], place: int) -> list[int] | None:
    """Return axes, which newer opsets give as the input at `place` and older ones as an attribute; None where neither is there."""
    axes = given(x, place)
    if axes is None:
        return attribute_ints(node, "axes") if "axes" in node.attributes else None
    return [int(n) for n in axes] if isinstance(axes, list) else [int(axes)]


def dtype_of(node: ir.Node, code: int) -> torch.dtype:
    """Return torch's dtype for ONNX's code of one. SourceError where there is none, as for strings."""
    kind = ir.DataType(code)
    if kind not in DTYPES:
        raise no_counterpart(node, f"the type {kind.name.lower()}")
    return DTYPES[kind]


def described(node: ir.Node) -> str:
    """Return what a message says of a node: its name, operator, domain and opset."""
    domain, graph = node.domain or "ai.onnx", node.graph
    imports = graph.opset_imports if isinstance(graph, ir.Graph) else {}
    version = imports.get(node.domain, imports.get("") if domain == "ai.onnx" else None)
    return f"node {node.name!r} ({node.op_type}, {domain}{f' opset {version}' if version is not None else ''})"


def no_counterpart(node: ir.Node, form: str = "the operator") -> SourceError:
    """Return the error for a node, or for one `form` of it, that the graph in torch does not compute."""
    return SourceError(
        f"{described(node)}: {form} has no counterpart in torch yet, which compression computes with: export the model "
        "without it, or leave the model uncompressed (headway export)"
    )


def not_computed(node: ir.Node, error: Exception) -> SourceError:
    """Return the error for a node that torch refuses to compute on the inputs it was given."""
    reason = " ".join(str(error).split())[:200] or type(error).__name__
    return SourceError(
        f"{described(node)}: torch, which compression computes with, does not compute it as it stands ({reason}): export the "
        "model without it, or leave the model uncompressed (headway export)"
    )
