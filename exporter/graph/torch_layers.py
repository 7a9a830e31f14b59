"""Operators that are layers of a network: attention, rotary positions, matmuls, convolutions, pooling. Imports torch."""

from typing import Any

import onnx_ir as ir
import torch
import torch.nn.functional as F

from .edit import attribute_float, attribute_int, attribute_ints, attribute_string, optional_float
from .torch_node import Operator, Tensor, given, no_counterpart


def _attention(node: ir.Node, x: list[Any]) -> Tensor:
    """Compute Attention-23 on `[batch, sequence, features]` or `[batch, heads, sequence, features]`."""
    if len(node.outputs) > 1 or any(given(x, i) is not None for i in (4, 5, 6)):
        raise no_counterpart(node, "a cache of keys and values")
    flat = x[0].ndim == 3
    q, k, v = (_in_heads(node, t, i) for i, t in enumerate(x[:3]))
    if k.shape[1] != q.shape[1]:
        k, v = (t.repeat_interleave(q.shape[1] // k.shape[1], dim=1) for t in (k, v))
    mask, causal = given(x, 3), bool(attribute_int(node, "is_causal", 0))
    if mask is not None:
        mask = _additive(mask, q, k.shape[2], causal)
        causal = False
    scale, softcap = optional_float(node, "scale"), attribute_float(node, "softcap", 0.0)
    if softcap:
        mask = _additive(torch.zeros(()), q, k.shape[2], causal) if mask is None else mask
        mixed = _capped(q, k, v, mask, q.shape[-1] ** -0.5 if scale is None else scale, softcap)
    else:
        mixed = F.scaled_dot_product_attention(q, k, v, attn_mask=mask, is_causal=causal, scale=scale)
    return mixed.transpose(1, 2).flatten(2) if flat else mixed


def _in_heads(node: ir.Node, t: Tensor, place: int) -> Tensor:
    """Return queries (place 0), keys or values as `[batch, heads, sequence, features]`."""
    if t.ndim == 4:
        return t
    heads = attribute_int(node, "kv_num_heads" if place else "q_num_heads")
    return t.unflatten(-1, (heads, -1)).transpose(1, 2)


def _additive(mask: Tensor, q: Tensor, keys: int, causal: bool) -> Tensor:
    """Return a mask as what is added to the scores. What a bool mask hides gets the lowest number, as in ONNX Runtime."""
    lowest = torch.finfo(q.dtype).min
    if mask.dtype == torch.bool:
        mask = torch.zeros(mask.shape, dtype=q.dtype).masked_fill(~mask, lowest)
    if causal:
        later = torch.ones(q.shape[2], keys, dtype=torch.bool).triu(1)
        mask = (
            mask.masked_fill(later, lowest)
            if mask.ndim
            else torch.zeros(later.shape, dtype=q.dtype).masked_fill(later, lowest)
        )
    return mask.to(q.dtype)


def _capped(q: Tensor, k: Tensor, v: Tensor, mask: Tensor, scale: float, softcap: float) -> Tensor:
    """Compute an attention whose scores stay within ±`softcap`; the mask is added afterwards."""
    scores = softcap * torch.tanh(q @ k.transpose(2, 3) * scale / softcap)
    return torch.softmax(scores + mask, dim=-1) @ v


def _rotary(node: ir.Node, x: list[Any]) -> Tensor:
    """Rotate pairs of features by the angles of their positions (RotaryEmbedding-23)."""
    flat = x[0].ndim == 3
    rows = x[0].unflatten(-1, (attribute_int(node, "num_heads"), -1)) if flat else x[0].transpose(1, 2)
    width = attribute_int(node, "rotary_embedding_dim", 0) or rows.shape[-1]
    turned, rest = rows[..., :width], rows[..., width:]
    cos, sin = (t if given(x, 3) is None else t[x[3]] for t in x[1:3])
    cos, sin = (t[..., : width // 2].unsqueeze(-2) for t in (cos, sin))
    interleaved = bool(attribute_int(node, "interleaved", 0))
    a, b = (turned[..., 0::2], turned[..., 1::2]) if interleaved else turned.chunk(2, dim=-1)
    real, imaginary = a * cos - b * sin, b * cos + a * sin
    joined = torch.stack([real, imaginary], -1).flatten(-2) if interleaved else torch.cat([real, imaginary], -1)
    result = torch.cat([joined, rest], dim=-1)
    return result.flatten(2) if flat else result.transpose(1, 2)


def _gemm(node: ir.Node, x: list[Any]) -> Tensor:
    a = x[0].T if attribute_int(node, "transA", 0) else x[0]
    b = x[1].T if attribute_int(node, "transB", 0) else x[1]
    result = attribute_float(node, "alpha", 1.0) * (a @ b)
    return result + attribute_float(node, "beta", 1.0) * x[2] if given(x, 2) is not None else result


def _einsum(node: ir.Node, x: list[Any]) -> Tensor:
    return torch.einsum(attribute_string(node, "equation").replace(" ", ""), *x)


def _windows(node: ir.Node, x: Tensor, kernel: list[int], fill: float) -> tuple[Tensor, list[int], list[int]]:
    """Return the input padded as the node says, its strides and its dilations."""
    rank = len(kernel)
    strides, dilations = (attribute_ints(node, name, [1] * rank) for name in ("strides", "dilations"))
    pads, automatic = attribute_ints(node, "pads", [0] * 2 * rank), attribute_string(node, "auto_pad", "NOTSET")
    if automatic.startswith("SAME"):
        sizes = zip(x.shape[2:], kernel, strides, dilations, strict=True)
        total = [max(0, (-(-n // s) - 1) * s + (k - 1) * d + 1 - n) for n, k, s, d in sizes]
        less, more = [t // 2 for t in total], [t - t // 2 for t in total]
        pads = [*less, *more] if automatic == "SAME_UPPER" else [*more, *less]
    if any(pads):
        x = F.pad(x, [n for i in reversed(range(rank)) for n in (pads[i], pads[i + rank])], value=fill)
    return x, strides, dilations


def _conv(node: ir.Node, x: list[Any]) -> Tensor:
    kernel = list(x[1].shape[2:])
    padded, strides, dilations = _windows(node, x[0], kernel, 0.0)
    if len(kernel) > 3:
        raise no_counterpart(node, f"a convolution over {len(kernel)} axes")
    convolve = (F.conv1d, F.conv2d, F.conv3d)[len(kernel) - 1]
    return convolve(padded, x[1], given(x, 2), strides, 0, dilations, attribute_int(node, "group", 1))


def _max_pool(node: ir.Node, x: list[Any]) -> Tensor:
    kernel = _kernel(node)
    padded, strides, dilations = _windows(node, x[0], kernel, float("-inf"))
    return (F.max_pool1d, F.max_pool2d, F.max_pool3d)[len(kernel) - 1](padded, kernel, strides, 0, dilations)


def _average_pool(node: ir.Node, x: list[Any]) -> Tensor:
    kernel = _kernel(node)
    padded, strides, dilations = _windows(node, x[0], kernel, 0.0)
    if any(d != 1 for d in dilations):
        raise no_counterpart(node, "pooling with dilations")
    pool = (F.avg_pool1d, F.avg_pool2d, F.avg_pool3d)[len(kernel) - 1]
    result = pool(padded, kernel, strides)
    if attribute_int(node, "count_include_pad", 0) or padded is x[0]:
        return result
    return result / pool(_windows(node, torch.ones_like(x[0]), kernel, 0.0)[0], kernel, strides)


def _kernel(node: ir.Node) -> list[int]:
    """Return the axes' window sizes. SourceError for the forms of pooling that images alone have."""
    kernel = attribute_ints(node, "kernel_shape")
    if attribute_int(node, "ceil_mode", 0) or len(node.outputs) > 1 or len(kernel) > 3:
        raise no_counterpart(node, "pooling with ceil_mode, indices, or over more than three axes")
    return kernel


LAYERS: dict[str, Operator] = {
    "Attention": _attention,
    "AveragePool": _average_pool,
    "Conv": _conv,
    "Einsum": _einsum,
    "Gemm": _gemm,
    "GlobalAveragePool": lambda _, x: x[0].mean(list(range(2, x[0].ndim)), keepdim=True),
    "GlobalMaxPool": lambda _, x: x[0].amax(list(range(2, x[0].ndim)), keepdim=True),
    "MatMul": lambda _, x: x[0] @ x[1],
    "MaxPool": _max_pool,
    "RotaryEmbedding": _rotary,
}
