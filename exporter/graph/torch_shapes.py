"""Operators that make tensors, and give them other shapes: reshaping, expanding, padding, splitting. Imports torch."""

from typing import Any

import onnx_ir as ir
import torch
import torch.nn.functional as F

from .edit import attribute_int, attribute_ints, attribute_string, optional_int
from .torch_node import Operator, Tensor, axes_of, axis_of, dtype_of, given, no_counterpart


def _constant_of_shape(node: ir.Node, x: list[Any]) -> Tensor:
    held = node.attributes.get("value")
    if held is None:
        return torch.zeros(x[0])
    number = held.as_tensor().numpy()
    return torch.full(x[0], number.reshape(-1)[0].item(), dtype=dtype_of(node, held.as_tensor().dtype))


def _eye_like(node: ir.Node, x: list[Any]) -> Tensor:
    code = optional_int(node, "dtype")
    dtype = x[0].dtype if code is None else dtype_of(node, code)
    rows, columns = x[0].shape
    above = torch.arange(columns) - torch.arange(rows)[:, None]
    return (above == attribute_int(node, "k", 0)).to(dtype)


def _expand(_: ir.Node, x: list[Any]) -> Tensor:
    """Broadcast both ways: a size of 1 on either side takes the other's."""
    return x[0].expand(torch.broadcast_shapes(x[0].shape, tuple(x[1].tolist())))


def _flatten(node: ir.Node, x: list[Any]) -> Tensor:
    axis = axis_of(node, 1)
    axis += x[0].ndim if axis < 0 else 0
    return x[0].reshape(int(torch.tensor(x[0].shape[:axis]).prod()) if axis else 1, -1)


def _pad(node: ir.Node, x: list[Any]) -> Tensor:
    """Pad, or cut where the number is negative."""
    mode, rank = attribute_string(node, "mode", "constant"), x[0].ndim
    axes = [a % rank for a in x[3]] if given(x, 3) is not None else list(range(rank))
    begins, ends = dict(zip(axes, x[1], strict=False)), dict(zip(axes, x[1][len(axes) :], strict=True))
    if mode == "constant":
        flat = [n for axis in reversed(range(rank)) for n in (begins.get(axis, 0), ends.get(axis, 0))]
        return F.pad(x[0], flat, value=float(x[2]) if given(x, 2) is not None else 0.0)
    result = x[0]
    for axis in axes:
        size = result.shape[axis]
        at = torch.arange(-begins[axis], size + ends[axis])
        result = result.index_select(axis, _mirrored(node, mode, at, size))
    return result


def _mirrored(node: ir.Node, mode: str, at: Tensor, size: int) -> Tensor:
    """Return which element stands at each place, from before the first to beyond the last of `size`."""
    if mode == "edge":
        return at.clamp(0, size - 1)
    if mode == "wrap":
        return at % size
    if mode == "reflect":
        period = max(2 * (size - 1), 1)
        at = at % period
        return torch.where(at < size, at, period - at)
    raise no_counterpart(node, f"the mode {mode!r}")


def _reshape(node: ir.Node, x: list[Any]) -> Tensor:
    keep = not attribute_int(node, "allowzero", 0)
    # A symbolic size is not compared with 0: the comparison would fix it in an exported graph.
    return x[0].reshape([x[0].shape[i] if keep and isinstance(n, int) and n == 0 else n for i, n in enumerate(x[1])])


def _shape(node: ir.Node, x: list[Any]) -> Tensor:
    start, end = (optional_int(node, name) for name in ("start", "end"))
    return torch.tensor(list(x[0].shape)[start:end], dtype=torch.int64)


def _split(node: ir.Node, x: list[Any]) -> tuple[Tensor, ...]:
    """Split into the sizes given, or into equal parts of which the last may be smaller."""
    axis, sizes = axis_of(node, 0), given(x, 1)
    if sizes is None:
        total, parts = x[0].shape[axis], len(node.outputs)
        each = -(-total // parts)
        sizes = [max(0, min(each, total - i * each)) for i in range(parts)]
    return tuple(torch.split(x[0], sizes, dim=axis))


def _squeeze(node: ir.Node, x: list[Any]) -> Tensor:
    axes = axes_of(node, x, 1)
    return torch.squeeze(x[0]) if axes is None else torch.squeeze(x[0], tuple(axes))


def _unsqueeze(node: ir.Node, x: list[Any]) -> Tensor:
    axes = axes_of(node, x, 1) or []
    result = x[0]
    for axis in sorted(a % (x[0].ndim + len(axes)) for a in axes):
        result = result.unsqueeze(axis)
    return result


SHAPES: dict[str, Operator] = {
    "Concat": lambda node, x: torch.cat(x, dim=axis_of(node, 0)),
    "ConstantOfShape": _constant_of_shape,
    "Expand": _expand,
    "EyeLike": _eye_like,
    "Flatten": _flatten,
    "Pad": _pad,
    "Range": lambda _, x: torch.arange(x[0].item(), x[1].item(), x[2].item(), dtype=x[0].dtype),
    "Reshape": _reshape,
    "Shape": _shape,
    "Size": lambda _, x: torch.tensor(x[0].numel()),
    "Split": _split,
    "Squeeze": _squeeze,
    "Tile": lambda _, x: x[0].repeat(x[1]),
    "Transpose": lambda node, x: x[0].permute(attribute_ints(node, "perm", range(x[0].ndim - 1, -1, -1))),
    "Unsqueeze": _unsqueeze,
}

PLAIN_SHAPES = {
    "ConstantOfShape": (0,),
    "Pad": (1, 3),
    "Reshape": (1,),
    "Split": (1,),
    "Squeeze": (1,),
    "Tile": (1,),
    "Unsqueeze": (1,),
}
