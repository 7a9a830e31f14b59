"""Operators that work along axes: sums and extremes, running sums, softmax, normalization. Imports torch."""

from collections.abc import Callable
from typing import Any

import onnx_ir as ir
import torch
import torch.nn.functional as F

from .edit import attribute_float, attribute_int
from .torch_node import Operator, Tensor, axes_of, axis_of, given, no_counterpart

Reduction = Callable[..., Tensor]


def reduce(function: Reduction) -> Operator:
    """Return an operator Reduce… made from torch's `function`; without axes it reduces all of them, or none where it says so."""

    def apply(node: ir.Node, x: list[Any]) -> Tensor:
        axes = axes_of(node, x, 1)
        if not axes and attribute_int(node, "noop_with_empty_axes", 0):
            # Each element by itself: over a new axis of one, so that a norm is still one.
            return function(x[0].unsqueeze(-1), dim=[-1], keepdim=False)
        axes = axes or list(range(x[0].ndim))
        return function(x[0], dim=axes, keepdim=bool(attribute_int(node, "keepdims", 1))) if axes else x[0]

    return apply


def _sum(t: Tensor, dim: list[int], keepdim: bool) -> Tensor:
    return torch.sum(t, dim=dim, keepdim=keepdim, dtype=t.dtype)


def _product(t: Tensor, dim: list[int], keepdim: bool) -> Tensor:
    for axis in sorted((d % t.ndim for d in dim), reverse=True):
        t = torch.prod(t, dim=axis, keepdim=keepdim, dtype=t.dtype)
    return t


def _l2(t: Tensor, dim: list[int], keepdim: bool) -> Tensor:
    return torch.linalg.vector_norm(t, dim=dim, keepdim=keepdim)


def _arg(largest: bool) -> Operator:
    def apply(node: ir.Node, x: list[Any]) -> Tensor:
        axis, keep = axis_of(node, 0), bool(attribute_int(node, "keepdims", 1))
        pick = torch.argmax if largest else torch.argmin
        if attribute_int(node, "select_last_index", 0):
            return x[0].shape[axis] - 1 - pick(x[0].flip(axis), dim=axis, keepdim=keep)
        return pick(x[0], dim=axis, keepdim=keep)

    return apply


def _cumsum(node: ir.Node, x: list[Any]) -> Tensor:
    """Sum up to each place: with `exclusive` up to the one before, with `reverse` from the end."""
    axis, reverse = int(x[1]), attribute_int(node, "reverse", 0)
    ordered = x[0].flip(axis) if reverse else x[0]
    total = torch.cumsum(ordered, axis, dtype=x[0].dtype)
    if attribute_int(node, "exclusive", 0):
        first = torch.zeros_like(total.narrow(axis, 0, 1))
        total = torch.cat([first, total.narrow(axis, 0, total.shape[axis] - 1)], dim=axis)
    return total.flip(axis) if reverse else total


def _layer_norm(node: ir.Node, x: list[Any]) -> Tensor | tuple[Tensor, ...]:
    start, epsilon = axis_of(node, -1) % x[0].ndim, attribute_float(node, "epsilon", 1e-5)
    shape, bias = x[0].shape[start:], given(x, 2)
    if x[1].shape == shape and (bias is None or bias.shape == shape):
        result = F.layer_norm(x[0], shape, x[1], bias, epsilon)
    else:
        result = F.layer_norm(x[0], shape, None, None, epsilon) * x[1] + (0 if bias is None else bias)
    if len(node.outputs) == 1:
        return result
    axes = list(range(start, x[0].ndim))
    mean = x[0].mean(axes, keepdim=True)
    return result, mean, torch.rsqrt(((x[0] - mean) ** 2).mean(axes, keepdim=True) + epsilon)


def _rms_norm(node: ir.Node, x: list[Any]) -> Tensor:
    axes = list(range(axis_of(node, -1) % x[0].ndim, x[0].ndim))
    power = (x[0] * x[0]).mean(axes, keepdim=True)
    return x[0] * torch.rsqrt(power + attribute_float(node, "epsilon", 1e-5)) * x[1]


def _batch_norm(node: ir.Node, x: list[Any]) -> Tensor:
    if attribute_int(node, "training_mode", 0):
        raise no_counterpart(node, "a BatchNormalization in training mode")
    shape = [1, -1] + [1] * (x[0].ndim - 2)
    scale, bias, mean, variance = (v.reshape(shape) for v in x[1:5])
    return (x[0] - mean) * torch.rsqrt(variance + attribute_float(node, "epsilon", 1e-5)) * scale + bias


def _instance_norm(node: ir.Node, x: list[Any]) -> Tensor:
    return F.instance_norm(x[0], weight=x[1], bias=x[2], eps=attribute_float(node, "epsilon", 1e-5))


def _group_norm(node: ir.Node, x: list[Any]) -> Tensor:
    """Normalize groups of channels; before opset 21, scale and bias are those of groups."""
    groups, each = attribute_int(node, "num_groups"), x[0].shape[1]
    scale, bias = (v if v.numel() == each else v.repeat_interleave(each // groups) for v in x[1:3])
    return F.group_norm(x[0], groups, scale, bias, attribute_float(node, "epsilon", 1e-5))


def _unit_norm(node: ir.Node, x: list[Any]) -> Tensor:
    """Divide by the norm, which has no lower bound: zeros stay zeros."""
    norm = torch.linalg.vector_norm(x[0], attribute_int(node, "p", 2), dim=axis_of(node, -1), keepdim=True)
    return x[0] / torch.where(norm == 0, 1.0, norm)


REDUCTIONS: dict[str, Operator] = {
    "ArgMax": _arg(largest=True),
    "ArgMin": _arg(largest=False),
    "BatchNormalization": _batch_norm,
    "CumSum": _cumsum,
    "GroupNormalization": _group_norm,
    "InstanceNormalization": _instance_norm,
    "LayerNormalization": _layer_norm,
    "LogSoftmax": lambda node, x: torch.log_softmax(x[0], dim=axis_of(node, -1)),
    "LpNormalization": _unit_norm,
    "RMSNormalization": _rms_norm,
    "ReduceL1": reduce(lambda t, dim, keepdim: _sum(t.abs(), dim, keepdim)),
    "ReduceL2": reduce(_l2),
    "ReduceLogSum": reduce(lambda t, dim, keepdim: _sum(t, dim, keepdim).log()),
    "ReduceLogSumExp": reduce(torch.logsumexp),
    "ReduceMax": reduce(torch.amax),
    "ReduceMean": reduce(torch.mean),
    "ReduceMin": reduce(torch.amin),
    "ReduceProd": reduce(_product),
    "ReduceSum": reduce(_sum),
    "ReduceSumSquare": reduce(lambda t, dim, keepdim: _sum(t * t, dim, keepdim)),
    "Softmax": lambda node, x: torch.softmax(x[0], dim=axis_of(node, -1)),
}

PLAIN_REDUCTIONS = {name: (1,) for name in REDUCTIONS if name.startswith("Reduce")}
