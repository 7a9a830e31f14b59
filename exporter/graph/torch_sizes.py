"""Shape arithmetic of a graph on plain integers: `Shape` and what is computed from it.

A size is a number, or a list of numbers, each plain or symbolic. So the length of the sequence stays symbolic when a module
is exported.
"""

from collections.abc import Callable
from typing import Any

import numpy as np
import onnx_ir as ir
import torch

from .edit import attribute_int, constant, optional_int

_LARGEST_SIZE_LIST = 64
"""Constants of at most so many elements may be sizes or axes; longer ones are weights."""


def plain_numbers(value: ir.Value | None) -> Any:
    """Return a small constant as a number or a list; None where it is no such thing."""
    if value is None or value.const_value is None or value.const_value.size > _LARGEST_SIZE_LIST:
        return None
    array = constant(value)
    return None if array is None else np.asarray(array).tolist()


def sizes_of(node: ir.Node, x: list[Any]) -> list[Any]:
    """Return the sizes that a Shape node gives for a tensor, or for a size, which is one number or a list."""
    start, end = (optional_int(node, name) for name in ("start", "end"))
    if isinstance(x[0], torch.Tensor):
        return list(x[0].shape)[start:end]
    return ([len(x[0])] if isinstance(x[0], list) else [])[start:end]


def size_as_tensor(size: Any) -> torch.Tensor:
    """Return a size as the int64 tensor that the graph has in its place, or the bool one; symbolic sizes stay symbolic."""
    if isinstance(size, list):
        return torch.stack([size_as_tensor(n) for n in size]) if size else torch.zeros(0, dtype=torch.int64)
    return torch.full((), size, dtype=torch.bool if isinstance(size, bool) else torch.int64)


def stays_size(node: ir.Node) -> bool:
    """Return whether a node makes a size of sizes: one that casts them to another kind of number makes a tensor."""
    if node.op_type == "Cast":
        return ir.DataType(attribute_int(node, "to")) in (ir.DataType.INT32, ir.DataType.INT64)
    return node.op_type in SIZE_OPERATORS


def _each(function: Callable[[Any, Any], Any]) -> Callable[[ir.Node, list[Any]], Any]:
    """Return an operator that applies `function` element by element; a number meets every element of a list."""

    def apply(_: ir.Node, x: list[Any]) -> Any:
        a, b = x
        if not isinstance(a, list) and not isinstance(b, list):
            return function(a, b)
        length = max(len(v) if isinstance(v, list) else 1 for v in (a, b))
        a, b = (v * (length // len(v)) if isinstance(v, list) else [v] * length for v in (a, b))
        return [function(p, q) for p, q in zip(a, b, strict=True)]

    return apply


def _quotient(a: Any, b: Any) -> Any:
    """Divide as ONNX does, toward zero; a symbolic size is never negative."""
    return -(-a // b) if isinstance(a, int) and isinstance(b, int) and (a < 0) != (b < 0) else a // b


def _product(node: ir.Node, x: list[Any]) -> Any:
    total = 1
    for n in _joined(node, [x[0]]):
        total = total * n
    return [total] if attribute_int(node, "keepdims", 1) else total


def _chosen(_: ir.Node, x: list[Any]) -> Any:
    """Return Where of sizes; a number meets every element of a list."""
    if not any(isinstance(v, list) for v in x):
        return x[1] if x[0] else x[2]
    length = max(len(v) if isinstance(v, list) else 1 for v in x)
    lists = (v * (length // len(v)) if isinstance(v, list) else [v] * length for v in x)
    return [a if condition else b for condition, a, b in zip(*lists, strict=True)]


def _joined(_: ir.Node, x: list[Any]) -> list[Any]:
    return [n for part in x for n in (part if isinstance(part, list) else [part])]


def _picked(_: ir.Node, x: list[Any]) -> Any:
    return [x[0][i] for i in x[1]] if isinstance(x[1], list) else x[0][x[1]]


def _part(_: ir.Node, x: list[Any]) -> list[Any]:
    step = x[4][0] if len(x) > 4 and x[4] is not None else 1
    return x[0][x[1][0] : x[2][0] : step]


SIZE_OPERATORS: dict[str, Callable[[ir.Node, list[Any]], Any]] = {
    "Add": _each(lambda a, b: a + b),
    "Cast": lambda _, x: x[0],
    "Concat": _joined,
    "Div": _each(_quotient),
    "Equal": _each(lambda a, b: a == b),
    "Gather": _picked,
    "Identity": lambda _, x: x[0],
    "Max": _each(torch.sym_max),
    "Min": _each(torch.sym_min),
    "Mod": _each(lambda a, b: a % b),
    "Mul": _each(lambda a, b: a * b),
    "Neg": lambda _, x: [-n for n in x[0]] if isinstance(x[0], list) else -x[0],
    "ReduceProd": _product,
    "Reshape": lambda _, x: _joined(_, [x[0]]) if x[1] else x[0],
    "Slice": _part,
    "Squeeze": lambda _, x: x[0][0] if isinstance(x[0], list) and len(x[0]) == 1 else x[0],
    "Sub": _each(lambda a, b: a - b),
    "Unsqueeze": lambda _, x: x[0] if isinstance(x[0], list) else [x[0]],
    "Where": _chosen,
}
