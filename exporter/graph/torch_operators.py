"""ONNX operators in torch: one small function each, which follows the operator's ONNX specification.

`OPERATORS` maps an operator's name to its function on the node and its inputs. It holds what exporters write for encoders, from
one module for each kind of operator, and here Headway's own functions and its kernels' operators. Imports torch.
"""

from typing import Any

import onnx_ir as ir
import torch

from ...kernels import reference
from .edit import attribute_float, attribute_int
from .torch_elementwise import ELEMENTWISE
from .torch_indexing import INDEXING, PLAIN_INDEXING
from .torch_layers import LAYERS
from .torch_node import Operator, Tensor, axis_of, dtype_of, given
from .torch_recurrent import RECURRENT
from .torch_reductions import PLAIN_REDUCTIONS, REDUCTIONS
from .torch_shapes import PLAIN_SHAPES, SHAPES


def _quantize(node: ir.Node, x: list[Any]) -> Tensor:
    """Round half to even and saturate. The result has the dtype of the zero point, or else of `output_dtype`, or else uint8."""
    zero = given(x, 2)
    if zero is None:
        code = attribute_int(node, "output_dtype", 0)
        zero = torch.zeros((), dtype=dtype_of(node, code) if code else torch.uint8)
    limits = torch.iinfo(zero.dtype)
    scaled = torch.round(x[0] / _aligned(node, x[0], x[1]))
    return (scaled + _aligned(node, x[0], zero)).clamp(limits.min, limits.max).to(zero.dtype)


def _dequantize(node: ir.Node, x: list[Any]) -> Tensor:
    zero = given(x, 2)
    zero = torch.zeros((), dtype=x[0].dtype) if zero is None else zero
    return (x[0].to(x[1].dtype) - _aligned(node, x[0], zero)) * _aligned(node, x[0], x[1])


def _aligned(node: ir.Node, x: Tensor, vector: Tensor) -> Tensor:
    """Return a scale or zero point in a shape that broadcasts with `x`: one for all, per channel of `axis`, or per block of it."""
    if vector.numel() == 1:
        return vector.reshape(())
    axis, block = axis_of(node, 1), attribute_int(node, "block_size", 0)
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


_OWN: dict[str, Operator] = {
    "DequantizeLinear": _dequantize,
    "MaskedSoftmax": _masked_softmax,
    "MaskedSoftmaxBias": _masked_softmax,
    "PaddedAttention": _padded_attention,
    "PaddedAttentionBias": _padded_attention,
    "QuantizeLinear": _quantize,
    "QuantizeTokens": lambda _, x: quantize_tokens(x[0]),
}

OPERATORS: dict[str, Operator] = {**ELEMENTWISE, **INDEXING, **LAYERS, **RECURRENT, **REDUCTIONS, **SHAPES, **_OWN}

PLAIN: dict[str, tuple[int, ...]] = {**PLAIN_INDEXING, **PLAIN_REDUCTIONS, **PLAIN_SHAPES}
"""Indices of the inputs that an operator takes as plain numbers, not as tensors."""
