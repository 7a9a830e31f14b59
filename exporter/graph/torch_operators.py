"""ONNX operators in torch: one small function each, which follows the operator's ONNX specification.

`OPERATORS` maps an operator's name to its function on the node and its inputs. It holds the operators of canonical encoder
graphs, Headway's own functions and its kernels' operators. Imports torch.
"""

from collections.abc import Callable
from typing import Any

import onnx_ir as ir
import torch
import torch.nn.functional as F

from ...errors import SourceError
from ...kernels import reference
from .edit import (
    attribute_float,
    attribute_int,
    attribute_ints,
    attribute_string,
    optional_float,
    optional_int,
)

Tensor = torch.Tensor

DTYPES = {
    ir.DataType.FLOAT: torch.float32,
    ir.DataType.FLOAT16: torch.float16,
    ir.DataType.BFLOAT16: torch.bfloat16,
    ir.DataType.DOUBLE: torch.float64,
    ir.DataType.INT64: torch.int64,
    ir.DataType.INT32: torch.int32,
    ir.DataType.INT8: torch.int8,
    ir.DataType.UINT8: torch.uint8,
    ir.DataType.BOOL: torch.bool,
}


def _axis(node: ir.Node, default: int) -> int:
    return attribute_int(node, "axis", default)


def _attention(node: ir.Node, x: list[Any]) -> Tensor:
    """Compute Attention-23 on 3-D inputs; the float mask is added to the scores."""
    heads, kv_heads = (attribute_int(node, n) for n in ("q_num_heads", "kv_num_heads"))
    q, k, v = (
        t.unflatten(-1, (h, -1)).transpose(1, 2) for t, h in zip(x[:3], (heads, kv_heads, kv_heads), strict=True)
    )
    if kv_heads != heads:
        k, v = (t.repeat_interleave(heads // kv_heads, dim=1) for t in (k, v))
    mask = x[3] if len(x) > 3 else None
    causal, scale = bool(attribute_int(node, "is_causal", 0)), optional_float(node, "scale")
    mixed = F.scaled_dot_product_attention(q, k, v, attn_mask=mask, is_causal=causal, scale=scale)
    return mixed.transpose(1, 2).flatten(2)


def _cast(node: ir.Node, x: list[Any]) -> Tensor:
    return x[0].to(DTYPES[ir.DataType(attribute_int(node, "to"))])


def _clip(_: ir.Node, x: list[Any]) -> Tensor:
    low, high = (x[i] if len(x) > i and x[i] is not None else None for i in (1, 2))
    return torch.clamp(x[0], low, high)


def _cumsum(node: ir.Node, x: list[Any]) -> Tensor:
    if attribute_int(node, "exclusive", 0) or attribute_int(node, "reverse", 0):
        raise SourceError(f"node {node.name!r}: exclusive or reverse CumSum has no counterpart in torch yet")
    return torch.cumsum(x[0], int(x[1]), dtype=x[0].dtype)


def _quantize(node: ir.Node, x: list[Any]) -> Tensor:
    """Round half to even and saturate. The result has the dtype of the zero point, uint8 where there is none."""
    zero = x[2] if len(x) > 2 and x[2] is not None else torch.zeros((), dtype=torch.uint8)
    limits = torch.iinfo(zero.dtype)
    scaled = torch.round(x[0] / _aligned(node, x[0], x[1]))
    return (scaled + _aligned(node, x[0], zero)).clamp(limits.min, limits.max).to(zero.dtype)


def _dequantize(node: ir.Node, x: list[Any]) -> Tensor:
    zero = x[2] if len(x) > 2 and x[2] is not None else torch.zeros((), dtype=x[0].dtype)
    return (x[0].to(x[1].dtype) - _aligned(node, x[0], zero)) * _aligned(node, x[0], x[1])


def _aligned(node: ir.Node, x: Tensor, vector: Tensor) -> Tensor:
    """Return a scale or zero point in a shape that broadcasts with `x`: one for all, per channel of `axis`, or per block of it."""
    if vector.numel() == 1:
        return vector.reshape(())
    axis, block = _axis(node, 1), attribute_int(node, "block_size", 0)
    if block:
        return vector.repeat_interleave(block, dim=axis)
    shape = [1] * x.ndim
    shape[axis] = -1
    return vector.reshape(shape)


def quantize_tokens(x: Tensor) -> Tensor:
    """Return float32 `x [..., features]` rounded as the function `headway.QuantizeTokens`, see `quantized.tokens_function`."""
    low, high = x.amin(-1, keepdim=True).clamp(max=0), x.amax(-1, keepdim=True).clamp(min=0)
    scale = (high - low) / 255
    scale = torch.where(scale == 0, 1.0, scale)
    zero = torch.round(-low / scale)
    return ((torch.round(x / scale) + zero).clamp(0, 255) - zero) * scale


def _div(_: ir.Node, x: list[Any]) -> Tensor:
    return x[0] / x[1] if x[0].is_floating_point() else torch.div(x[0], x[1], rounding_mode="trunc")


def _gather(node: ir.Node, x: list[Any]) -> Tensor:
    axis, data, index = _axis(node, 0), x[0], x[1]
    if axis == 0 and data.ndim == 2:
        return F.embedding(torch.where(index < 0, index + data.shape[0], index), data)
    flat = torch.where(index < 0, index + data.shape[axis], index).reshape(-1)
    picked = torch.index_select(data, axis, flat)
    axis %= data.ndim
    return picked.reshape(*data.shape[:axis], *index.shape, *data.shape[axis + 1 :])


def _gather_elements(node: ir.Node, x: list[Any]) -> Tensor:
    axis = _axis(node, 0)
    return torch.gather(x[0], axis, torch.where(x[1] < 0, x[1] + x[0].shape[axis], x[1]))


def _gather_nd(node: ir.Node, x: list[Any]) -> Tensor:
    data, index = x[0], x[1]
    batch = attribute_int(node, "batch_dims", 0)
    grids = torch.meshgrid(*(torch.arange(n) for n in data.shape[:batch]), indexing="ij") if batch else ()
    extra = index.ndim - 1 - batch
    leading = tuple(g.reshape(*g.shape, *[1] * extra) for g in grids)
    return data[(*leading, *index.unbind(-1))]


def _gemm(node: ir.Node, x: list[Any]) -> Tensor:
    a = x[0].T if attribute_int(node, "transA", 0) else x[0]
    b = x[1].T if attribute_int(node, "transB", 0) else x[1]
    result = attribute_float(node, "alpha", 1.0) * (a @ b)
    return result + attribute_float(node, "beta", 1.0) * x[2] if len(x) > 2 and x[2] is not None else result


def _layer_norm(node: ir.Node, x: list[Any]) -> Tensor:
    start = _axis(node, -1) % x[0].ndim
    bias = x[2] if len(x) > 2 else None
    return F.layer_norm(x[0], x[0].shape[start:], x[1], bias, attribute_float(node, "epsilon", 1e-5))


def _pad(node: ir.Node, x: list[Any]) -> Tensor:
    if attribute_string(node, "mode", "constant") != "constant":
        raise SourceError(f"node {node.name!r}: only constant padding has a counterpart in torch yet")
    pads, rank = x[1], x[0].ndim
    axes = [a % rank for a in x[3]] if len(x) > 3 and x[3] is not None else list(range(rank))
    begins, ends = dict(zip(axes, pads, strict=False)), dict(zip(axes, pads[len(axes) :], strict=True))
    flat = [n for axis in reversed(range(rank)) for n in (begins.get(axis, 0), ends.get(axis, 0))]
    return F.pad(x[0], flat, value=float(x[2]) if len(x) > 2 and x[2] is not None else 0.0)


def reduce(function: Callable[..., Tensor]) -> Callable[[ir.Node, list[Any]], Tensor]:
    """Return an operator Reduce… made from torch's `function`; without axes it reduces all of them."""

    def apply(node: ir.Node, x: list[Any]) -> Tensor:
        axes = x[1] if len(x) > 1 and x[1] is not None else list(range(x[0].ndim))
        return function(x[0], dim=axes, keepdim=bool(attribute_int(node, "keepdims", 1)))

    return apply


def _reshape(node: ir.Node, x: list[Any]) -> Tensor:
    keep = not attribute_int(node, "allowzero", 0)
    # A symbolic size is not compared with 0: the comparison would fix it in an exported graph.
    return x[0].reshape([x[0].shape[i] if keep and isinstance(n, int) and n == 0 else n for i, n in enumerate(x[1])])


def _shape(node: ir.Node, x: list[Any]) -> Tensor:
    start, end = (optional_int(node, name) for name in ("start", "end"))
    return torch.tensor(list(x[0].shape)[start:end], dtype=torch.int64)


def _slice(_: ir.Node, x: list[Any]) -> Tensor:
    starts, ends = x[1].tolist(), x[2].tolist()
    axes = x[3].tolist() if len(x) > 3 and x[3] is not None else list(range(len(starts)))
    steps = x[4].tolist() if len(x) > 4 and x[4] is not None else [1] * len(starts)
    result = x[0]
    for start, end, axis, step in zip(starts, ends, axes, steps, strict=True):
        span = range(result.shape[axis])[start:end:step]
        index = torch.arange(span.start, span.stop, span.step)
        result = result.narrow(axis, span.start, len(span)) if span.step == 1 else result.index_select(axis, index)
    return result


def _split(node: ir.Node, x: list[Any]) -> tuple[Tensor, ...]:
    axis = _axis(node, 0)
    if len(x) > 1 and x[1] is not None:
        return tuple(torch.split(x[0], x[1], dim=axis))
    return tuple(torch.chunk(x[0], len(node.outputs), dim=axis))


def _squeeze(_: ir.Node, x: list[Any]) -> Tensor:
    return torch.squeeze(x[0], tuple(x[1])) if len(x) > 1 and x[1] is not None else torch.squeeze(x[0])


def _unsqueeze(_: ir.Node, x: list[Any]) -> Tensor:
    axes = x[1] if isinstance(x[1], list) else [x[1]]
    result = x[0]
    for axis in sorted(a % (x[0].ndim + len(axes)) for a in axes):
        result = result.unsqueeze(axis)
    return result


def _expand(_: ir.Node, x: list[Any]) -> Tensor:
    return x[0].expand(torch.broadcast_shapes(x[0].shape, tuple(x[1].tolist())))


def _argmax(node: ir.Node, x: list[Any]) -> Tensor:
    axis, keep = _axis(node, 0), bool(attribute_int(node, "keepdims", 1))
    if attribute_int(node, "select_last_index", 0):
        return x[0].shape[axis] - 1 - torch.argmax(x[0].flip(axis), dim=axis, keepdim=keep)
    return torch.argmax(x[0], dim=axis, keepdim=keep)


def _padded_attention(node: ir.Node, x: list[Any]) -> Tensor:
    """Compute `headway.PaddedAttention`, with a bias or without, as `kernels.reference` defines it."""
    q, k, v, lengths, bias = (*(t.double().numpy() for t in x), None)[:5]
    heads, scale = attribute_int(node, "heads", 0), attribute_float(node, "scale", 0.0)
    causal = bool(attribute_int(node, "causal", 0))
    return torch.from_numpy(reference.padded_attention(q, k, v, lengths, heads, scale, bias, causal)).float()


def _masked_softmax(node: ir.Node, x: list[Any]) -> Tensor:
    """Compute `headway.MaskedSoftmax`, with a bias or without, as `kernels.reference` defines it."""
    scores, bias = (*(t.double().numpy() for t in x), None)[:2]
    return torch.from_numpy(reference.masked_softmax(scores, bias, attribute_float(node, "scale", 1.0))).float()


def _softmax(node: ir.Node, x: list[Any]) -> Tensor:
    return torch.softmax(x[0], dim=_axis(node, -1))


PLAIN = {
    "Pad": (1, 3),
    "ReduceL2": (1,),
    "ReduceMax": (1,),
    "ReduceMean": (1,),
    "ReduceMin": (1,),
    "ReduceSum": (1,),
    "Reshape": (1,),
    "Split": (1,),
    "Squeeze": (1,),
    "Tile": (1,),
    "Unsqueeze": (1,),
}
"""Indices of the inputs that an operator takes as plain numbers, not as tensors."""


OPERATORS: dict[str, Callable[[ir.Node, list[Any]], Tensor | tuple[Tensor, ...]]] = {
    "Abs": lambda _, x: x[0].abs(),
    "Add": lambda _, x: x[0] + x[1],
    "And": lambda _, x: x[0] & x[1],
    "ArgMax": _argmax,
    "Attention": _attention,
    "Cast": _cast,
    "Ceil": lambda _, x: x[0].ceil(),
    "Clip": _clip,
    "Concat": lambda node, x: torch.cat(x, dim=_axis(node, 0)),
    "Cos": lambda _, x: x[0].cos(),
    "CumSum": _cumsum,
    "DequantizeLinear": _dequantize,
    "Div": _div,
    "Equal": lambda _, x: x[0] == x[1],
    "Exp": lambda _, x: x[0].exp(),
    "Expand": _expand,
    "Gather": _gather,
    "GatherElements": _gather_elements,
    "GatherND": _gather_nd,
    "Gelu": lambda node, x: F.gelu(x[0], approximate=attribute_string(node, "approximate", "none")),
    "Gemm": _gemm,
    "Greater": lambda _, x: x[0] > x[1],
    "GreaterOrEqual": lambda _, x: x[0] >= x[1],
    "Identity": lambda _, x: x[0],
    "LayerNormalization": _layer_norm,
    "Less": lambda _, x: x[0] < x[1],
    "LessOrEqual": lambda _, x: x[0] <= x[1],
    "Log": lambda _, x: x[0].log(),
    "MaskedSoftmax": _masked_softmax,
    "MaskedSoftmaxBias": _masked_softmax,
    "MatMul": lambda _, x: x[0] @ x[1],
    "Max": lambda _, x: torch.stack(torch.broadcast_tensors(*x)).amax(0),
    "Min": lambda _, x: torch.stack(torch.broadcast_tensors(*x)).amin(0),
    "Mul": lambda _, x: x[0] * x[1],
    "Neg": lambda _, x: -x[0],
    "Not": lambda _, x: ~x[0],
    "Or": lambda _, x: x[0] | x[1],
    "Pad": _pad,
    "PaddedAttention": _padded_attention,
    "PaddedAttentionBias": _padded_attention,
    "Pow": lambda _, x: x[0] ** x[1],
    "QuantizeLinear": _quantize,
    "QuantizeTokens": lambda _, x: quantize_tokens(x[0]),
    "Range": lambda _, x: torch.arange(x[0].item(), x[1].item(), x[2].item(), dtype=x[0].dtype),
    "ReduceL2": reduce(lambda t, dim, keepdim: torch.linalg.vector_norm(t, dim=dim, keepdim=keepdim)),
    "ReduceMax": reduce(torch.amax),
    "ReduceMean": reduce(torch.mean),
    "ReduceMin": reduce(torch.amin),
    "ReduceSum": reduce(torch.sum),
    "Relu": lambda _, x: torch.relu(x[0]),
    "Reshape": _reshape,
    "Shape": _shape,
    "Sigmoid": lambda _, x: torch.sigmoid(x[0]),
    "Sign": lambda _, x: torch.sign(x[0]),
    "Sin": lambda _, x: x[0].sin(),
    "Slice": _slice,
    "Softmax": _softmax,
    "Split": _split,
    "Sqrt": lambda _, x: x[0].sqrt(),
    "Squeeze": _squeeze,
    "Sub": lambda _, x: x[0] - x[1],
    "Tanh": lambda _, x: torch.tanh(x[0]),
    "Tile": lambda _, x: x[0].repeat(x[1]),
    "Transpose": lambda node, x: x[0].permute(attribute_ints(node, "perm", range(x[0].ndim - 1, -1, -1))),
    "Unsqueeze": _unsqueeze,
    "Where": lambda _, x: torch.where(x[0], x[1], x[2]),
}
