"""Find the matmuls by trained weights in a graph, and hold each with its bias as one linear layer in torch. Imports torch."""

from dataclasses import dataclass

import onnx_ir as ir
import torch
import torch.nn.functional as F
from torch import nn

from .edit import attribute_float, attribute_int, bias_add, bias_of, consumers, dims, producer
from .quantized import TOKENS, quantized_weight_of
from .torch_node import Tensor
from .torch_operators import quantize_tokens


@dataclass(frozen=True)
class LinearWeights:
    """What `y = x Wᵀ + b` is made of. `weight` is float32, or int8 with `scale`; `[out, in]`.

    `scale` is float32 `[out, 1]`, or `[out, blocks]`. `per_token`: `x` is rounded for each token as in
    `quantized.tokens_function`. `name` is that of the weight.
    """

    name: str
    weight: Tensor
    scale: Tensor | None
    bias: Tensor | None
    per_token: bool

    def float_weight(self) -> Tensor:
        """Return the weight as float32 `[out, in]`."""
        if self.scale is None:
            return self.weight
        steps = self.scale.repeat_interleave(self.weight.shape[1] // self.scale.shape[1], dim=1)
        return self.weight.to(torch.float32) * steps


class Linear(nn.Module):
    """A linear layer as the graph has it: int8 weights become float32 when they are read, `x` is rounded where it should be."""

    def __init__(self, weights: LinearWeights):
        super().__init__()
        self.per_token = weights.per_token
        self.weight = nn.Parameter(weights.weight, requires_grad=False)
        self.scale = nn.Parameter(weights.scale, requires_grad=False) if weights.scale is not None else None
        self.bias = nn.Parameter(weights.bias, requires_grad=False) if weights.bias is not None else None

    def forward(self, x: Tensor) -> Tensor:
        """Return `[…, out]` float32 for `x [..., in]` float32."""
        x = quantize_tokens(x) if self.per_token else x
        weights = LinearWeights("", self.weight, self.scale, self.bias, self.per_token)
        return F.linear(x, weights.float_weight(), self.bias)


@dataclass(frozen=True)
class TrainedMatmul:
    """A matmul by a trained weight as it lies in the graph: the nodes that one linear layer stands for, in place of them all."""

    x: ir.Value
    weight: ir.Value
    scale: ir.Value | None
    bias: ir.Value | None
    per_token: bool
    transposed: bool
    """Whether the weight is held as `[out, in]`."""
    result: ir.Value
    made_of: tuple[ir.Node, ...] = ()
    """Nodes before the matmul: dequantization, a transposed embedding, rounding per token."""
    add: ir.Node | None = None


def trained_matmul(node: ir.Node) -> TrainedMatmul | None:
    """Return what the MatMul or Gemm `node` belongs to, None for another node. A bias is part of it if nothing reads between."""
    if node.op_type == "Gemm":
        return _from_gemm(node)
    if node.op_type != "MatMul":
        return None
    x, weight = node.inputs
    quantized = quantized_weight_of(node)
    transpose = producer(weight, "Transpose")
    scale, transposed = None, False
    before: list[ir.Node] = []
    if quantized is not None:
        dequantize = producer(weight)
        assert dequantize is not None
        weight, scale = quantized
        before.append(dequantize)
    elif transpose is not None and transpose.inputs[0] is not None and transpose.inputs[0].is_initializer():
        weight, transposed = transpose.inputs[0], True
        before.append(transpose)
    if x is None or weight is None or not weight.is_initializer() or len(dims(weight) or ()) != 2:
        return None
    if weight.dtype not in (ir.DataType.FLOAT, ir.DataType.INT8, ir.DataType.INT4):
        return None
    tokens = producer(x, TOKENS)
    if tokens is not None and tokens.inputs[0] is not None:
        x = tokens.inputs[0]
        before.append(tokens)
    add, result, bias = bias_add(node), node.outputs[0], None
    if add is not None and len(consumers(result)) == 1 and not result.is_graph_output():
        bias, result = bias_of(add), add.outputs[0]
    else:
        add = None
    return TrainedMatmul(x, weight, scale, bias, tokens is not None, transposed, result, tuple(before), add)


def _from_gemm(node: ir.Node) -> TrainedMatmul | None:
    x, weight, bias = (*node.inputs, None)[:3]
    plain = all(attribute_float(node, name, 1.0) == 1.0 for name in ("alpha", "beta"))
    plain = plain and not attribute_int(node, "transA", 0)
    if x is None or weight is None or not plain or not weight.is_initializer() or weight.dtype != ir.DataType.FLOAT:
        return None
    if bias is not None and (not bias.is_initializer() or len(dims(bias) or ()) != 1):
        return None
    return TrainedMatmul(x, weight, None, bias, False, bool(attribute_int(node, "transB", 0)), node.outputs[0])
