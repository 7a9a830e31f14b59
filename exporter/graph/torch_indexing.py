"""Operators that pick elements, or put them in places, by indices: gathering, scattering, slicing, selecting. Imports torch."""

from typing import Any

import onnx_ir as ir
import torch
import torch.nn.functional as F

from .edit import attribute_int, attribute_string, optional_int
from .torch_node import Operator, Tensor, axis_of, given

_REDUCTIONS = {"add": "sum", "mul": "prod", "max": "amax", "min": "amin"}
"""torch's names for what a scatter does with elements that meet."""


def _from_start(index: Tensor, size: int) -> Tensor:
    """Return indices as counted from the start: negative ones count from the end."""
    return torch.where(index < 0, index + size, index).to(torch.int64)


def _gather(node: ir.Node, x: list[Any]) -> Tensor:
    axis, data, index = axis_of(node, 0), x[0], x[1]
    if axis == 0 and data.ndim == 2:
        return F.embedding(torch.where(index < 0, index + data.shape[0], index), data)
    flat = torch.where(index < 0, index + data.shape[axis], index).reshape(-1)
    picked = torch.index_select(data, axis, flat)
    axis %= data.ndim
    return picked.reshape((*data.shape[:axis], *index.shape, *data.shape[axis + 1 :]))


def _gather_elements(node: ir.Node, x: list[Any]) -> Tensor:
    axis = axis_of(node, 0)
    return torch.gather(x[0], axis, _from_start(x[1], x[0].shape[axis]))


def _gather_nd(node: ir.Node, x: list[Any]) -> Tensor:
    data, index = x[0], x[1]
    batch = attribute_int(node, "batch_dims", 0)
    grids = torch.meshgrid(*(torch.arange(n) for n in data.shape[:batch]), indexing="ij") if batch else ()
    extra = index.ndim - 1 - batch
    leading = tuple(g.reshape(*g.shape, *[1] * extra) for g in grids)
    return data[(*leading, *index.unbind(-1))]


def _put(node: ir.Node, data: Tensor, axis: int, index: Tensor, updates: Tensor) -> Tensor:
    """Put `updates` into `data` where `index` says along `axis`, and do with those that meet what the node says."""
    reduction = attribute_string(node, "reduction", "none")
    if reduction == "none":
        return data.scatter(axis, index, updates)
    return data.scatter_reduce(axis, index, updates, _REDUCTIONS[reduction])


def _scatter_elements(node: ir.Node, x: list[Any]) -> Tensor:
    axis = axis_of(node, 0)
    return _put(node, x[0], axis, _from_start(x[1], x[0].shape[axis]), x[2])


def _scatter_nd(node: ir.Node, x: list[Any]) -> Tensor:
    """Put each update into the slice that its index tuple names; slices are counted in row-major order."""
    data, index, updates = x
    named = index.shape[-1]
    places = torch.zeros(index.shape[:-1], dtype=torch.int64)
    for part, size in zip(index.unbind(-1), data.shape[:named], strict=True):
        places = places * size + _from_start(part, size)
    rows = data.reshape(-1, *data.shape[named:]) if named < data.ndim else data.reshape(-1)
    new = updates.reshape(-1, *data.shape[named:]) if named < data.ndim else updates.reshape(-1)
    at = places.reshape(-1, *[1] * (rows.ndim - 1)).expand(new.shape)
    return _put(node, rows, 0, at, new).reshape(data.shape)


def _slice(_: ir.Node, x: list[Any]) -> Tensor:
    starts, ends = x[1].tolist(), x[2].tolist()
    axes = x[3].tolist() if given(x, 3) is not None else list(range(len(starts)))
    steps = x[4].tolist() if given(x, 4) is not None else [1] * len(starts)
    result = x[0]
    for start, end, axis, step in zip(starts, ends, axes, steps, strict=True):
        span = range(result.shape[axis])[start:end:step]
        if span.step == 1:
            result = result.narrow(axis, span.start, len(span))
        else:
            result = result.index_select(axis, torch.arange(span.start, span.stop, span.step))
    return result


def _compress(node: ir.Node, x: list[Any]) -> Tensor:
    axis = optional_int(node, "axis")
    data = x[0].reshape(-1) if axis is None else x[0]
    return data.index_select(axis or 0, torch.nonzero(x[1]).reshape(-1))


def _one_hot(node: ir.Node, x: list[Any]) -> Tensor:
    """Put the second of `x[2]` where the index says, the first elsewhere; an index beyond the depth hits nothing."""
    index, depth, axis = x[0].to(torch.int64), int(x[1]), axis_of(node, -1)
    places = torch.arange(depth).reshape(-1, *[1] * (index.ndim - axis % (index.ndim + 1)))
    hit = torch.where(index < 0, index + depth, index).unsqueeze(axis) == places
    return torch.where(hit, x[2][1], x[2][0])


def _top_k(node: ir.Node, x: list[Any]) -> tuple[Tensor, Tensor]:
    """Return the largest or smallest, sorted; of equal ones the first."""
    axis, count = axis_of(node, -1), int(x[1][0])
    order = torch.sort(x[0], dim=axis, descending=bool(attribute_int(node, "largest", 1)), stable=True).indices
    picked = order.narrow(axis, 0, count)
    return torch.gather(x[0], axis, picked), picked


def _trilu(node: ir.Node, x: list[Any]) -> Tensor:
    k = given(x, 1)
    diagonal = 0 if k is None else int(k[0] if isinstance(k, list) else k)
    return torch.triu(x[0], diagonal) if attribute_int(node, "upper", 1) else torch.tril(x[0], diagonal)


INDEXING: dict[str, Operator] = {
    "Compress": _compress,
    "Gather": _gather,
    "GatherElements": _gather_elements,
    "GatherND": _gather_nd,
    "NonZero": lambda _, x: torch.nonzero(x[0]).T,
    "OneHot": _one_hot,
    "ScatterElements": _scatter_elements,
    "ScatterND": _scatter_nd,
    "Slice": _slice,
    "TopK": _top_k,
    "Trilu": _trilu,
}

PLAIN_INDEXING = {"TopK": (1,), "Trilu": (1,)}
