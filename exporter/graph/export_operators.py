"""Operators in a form that `torch.export` and the delegates behind it take well; the others come from `torch_operators`."""

from collections.abc import Callable
from typing import Any

import numpy as np
import onnx_ir as ir
import torch
import torch.nn.functional as F

from ...errors import SourceError
from .edit import attribute_int, attribute_string, optional_float
from .torch_node import Tensor
from .torch_operators import OPERATORS
from .torch_reductions import reduce

_FAR = (1 << 31) - 1
"""From here on, bounds of a Slice mean the end of the axis, or its start where negative."""


def _attention(node: ir.Node, x: list[Any]) -> Tensor:
    """Compute Attention-23 by two matmuls and a softmax, which every delegate has. Queries are scaled: they are fewer than scores.

    For one text the heads take the place of the batch. Then the sequence is the only axis left to infer when heads are split
    and joined, as delegates require.
    """
    heads, kv_heads = (attribute_int(node, n) for n in ("q_num_heads", "kv_num_heads"))
    if attribute_int(node, "is_causal", 0):
        raise SourceError(f"node {node.name!r}: a causal attention has no counterpart in a torch module yet")
    batch, mask = x[0].shape[0], x[3] if len(x) > 3 else None
    given = optional_float(node, "scale")
    scale = given if given is not None else (x[0].shape[2] // heads) ** -0.5
    alone = isinstance(batch, int) and batch == 1
    q, k, v = (
        t.view(*(() if alone else (batch,)), -1, h, t.shape[2] // h)
        for t, h in zip((x[0] * scale, *x[1:3]), (heads, kv_heads, kv_heads), strict=True)
    )
    q, k, v = q.transpose(-3, -2), k.transpose(-3, -2).transpose(-2, -1), v.transpose(-3, -2)
    if kv_heads != heads:
        k, v = (t.repeat_interleave(heads // kv_heads, dim=-3) for t in (k, v))
    matmul = torch.bmm if alone else torch.matmul
    scores = matmul(q, k)
    if mask is not None:
        scores = scores + (mask.squeeze(0) if alone and mask.ndim == 4 else mask)
    mixed = matmul(torch.softmax(scores, dim=-1), v).transpose(-3, -2).contiguous()
    return mixed.view(batch, -1, mixed.shape[-2] * mixed.shape[-1])


def _gelu(node: ir.Node, x: list[Any]) -> Tensor:
    """Write out the tanh form: delegates compute the exact form for either."""
    if attribute_string(node, "approximate", "none") == "none":
        return F.gelu(x[0])
    inner = (x[0] * x[0] * x[0] * 0.044715 + x[0]) * (2 / np.pi) ** 0.5
    return x[0] * 0.5 * (torch.tanh(inner) + 1)


def _gather(node: ir.Node, x: list[Any]) -> Tensor:
    axis, data, index = attribute_int(node, "axis", 0), x[0], x[1]
    if isinstance(index, int):
        return data.select(axis, index)
    if isinstance(index, list):
        index = torch.tensor(index, dtype=torch.int64)
    if axis == 0 and data.ndim == 2:
        return F.embedding(index, data)
    axis %= data.ndim
    picked = torch.index_select(data, axis, index.reshape(-1))
    return picked.reshape((*data.shape[:axis], *index.shape, *data.shape[axis + 1 :]))


def _slice(node: ir.Node, x: list[Any]) -> Tensor:
    starts, ends = x[1], x[2]
    axes = x[3] if len(x) > 3 and x[3] is not None else list(range(len(starts)))
    steps = x[4] if len(x) > 4 and x[4] is not None else [1] * len(starts)
    result = x[0]
    for start, end, axis, step in zip(starts, ends, axes, steps, strict=True):
        if step < 0 and (start == -1 or start >= _FAR) and end <= -_FAR:  # all of the axis, from its end
            result = torch.flip(result, [axis])
            start, end, step = 0, _FAR, -step
        if step < 1:
            raise SourceError(
                f"node {node.name!r}: a Slice that runs backwards over a part has no counterpart in a torch module yet"
            )
        result = torch.ops.aten.slice.Tensor(result, axis, start, end, step)
    return result


def _expand(_: ir.Node, x: list[Any]) -> Tensor:
    missing = len(x[1]) - x[0].ndim
    shape = [1] * missing + list(x[0].shape)
    # A requested size of 1 leaves the tensor's own size, as in ONNX.
    return x[0].expand([own if isinstance(n, int) and n == 1 else n for own, n in zip(shape, x[1], strict=True)])


def _pairwise(function: Callable[[Tensor, Tensor], Tensor]) -> Callable[[ir.Node, list[Any]], Tensor]:
    def apply(_: ir.Node, x: list[Any]) -> Tensor:
        result = x[0]
        for other in x[1:]:
            result = function(result, other)
        return result

    return apply


EXPORT_OPERATORS: dict[str, tuple[Callable[[ir.Node, list[Any]], Any], tuple[int, ...]]] = {
    "Attention": (_attention, ()),
    "Clip": (OPERATORS["Clip"], (1, 2)),
    "CumSum": (lambda _, x: torch.cumsum(x[0], x[1], dtype=x[0].dtype), (1,)),
    "Expand": (_expand, (1,)),
    "Gather": (_gather, (1,)),
    "Gelu": (_gelu, ()),
    "GatherElements": (lambda node, x: torch.gather(x[0], attribute_int(node, "axis", 0), x[1]), ()),
    "Max": (_pairwise(torch.maximum), ()),
    "Min": (_pairwise(torch.minimum), ()),
    "Pad": (OPERATORS["Pad"], (1, 2, 3)),
    "Pow": (OPERATORS["Pow"], (1,)),
    "Range": (lambda _, x: torch.arange(x[0], x[1], x[2]), (0, 1, 2)),
    "ReduceL2": (reduce(lambda t, dim, keepdim: (t * t).sum(dim=dim, keepdim=keepdim).sqrt()), (1,)),
    "Slice": (_slice, (1, 2, 3, 4)),
}
"""Operator → its function, and the indices of the inputs that it takes as plain numbers."""
