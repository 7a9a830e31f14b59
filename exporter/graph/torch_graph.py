"""The canonical graph in torch: for gradients, for statistics of inner values, for training. Imports torch.

Each operator is one small function that follows its ONNX specification; an operator outside the list raises SourceError.
"""

import warnings
from collections.abc import Callable, Iterable, Mapping, Sequence
from typing import Any

import numpy as np
import onnx_ir as ir
import torch
import torch.nn.functional as F

from ...errors import SourceError
from ...kernels import reference
from .edit import attribute, constant
from .quantized import DOMAIN

Tensor = torch.Tensor
Env = dict[ir.Value, Tensor]
Hook = Callable[[Tensor], Tensor]

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


class TorchGraph:
    """Runs a canonical model. `weights` maps initializer name → tensor; they share memory with the model where they can.

    Assigning to `weights`, or `change`, alters what later runs compute.
    """

    def __init__(self, model: ir.Model):
        self.nodes = list(model.graph)
        for node in self.nodes:
            if node.op_type not in OPERATORS or node.domain not in ("", "ai.onnx", DOMAIN):
                raise SourceError(f"node {node.name!r}: {node.op_type} has no counterpart in torch yet")
        self.inputs = list(model.graph.inputs)
        self.outputs = list(model.graph.outputs)
        self.weights: dict[str, Tensor] = {
            name: as_tensor(constant(value)) for name, value in model.graph.initializers.items()
        }
        self.changed: set[str] = set()
        self._names = {value: name for name, value in model.graph.initializers.items()}
        self._last_use = _last_uses(self.nodes)

    def feeds(self, arrays: Mapping[str, np.ndarray]) -> Env:
        """The graph's inputs as tensors; arrays that it does not read are ignored."""
        return {v: torch.from_numpy(np.ascontiguousarray(arrays[str(v.name)])) for v in self.inputs}

    def run(
        self,
        env: Env,
        fetch: Iterable[ir.Value],
        *,
        hooks: Mapping[ir.Value, Hook] | None = None,
        nodes: Sequence[ir.Node] | None = None,
    ) -> Env:
        """Computes `fetch` from `env`, by the nodes given (default: all). A hook replaces a value as soon as it is there.

        Values that nothing later reads are dropped on the way.
        """
        wanted = set(fetch)
        values = dict(env)
        for node in self.nodes if nodes is None else nodes:
            results = self.compute(node, [self._input(values, v) for v in node.inputs])
            for out, result in zip(node.outputs, results if isinstance(results, tuple) else (results,), strict=False):
                hook = hooks.get(out) if hooks else None
                values[out] = hook(result) if hook else result
            for value in node.inputs:
                if value is not None and self._last_use.get(value) is node and value not in wanted:
                    values.pop(value, None)
        return {v: values[v] if v in values else self.weights[self._names[v]] for v in wanted}

    def __call__(
        self, arrays: Mapping[str, np.ndarray], hooks: Mapping[ir.Value, Hook] | None = None
    ) -> dict[str, Tensor]:
        """All outputs by name."""
        found = self.run(self.feeds(arrays), self.outputs, hooks=hooks)
        return {str(v.name): found[v] for v in self.outputs}

    def compute(self, node: ir.Node, inputs: list[Tensor | None]) -> Tensor | tuple[Tensor, ...]:
        """The results of one node."""
        plain = PLAIN.get(node.op_type, ())
        return OPERATORS[node.op_type](
            node, [x.tolist() if i in plain and x is not None else x for i, x in enumerate(inputs)]
        )

    def change(self, name: str, tensor: Tensor) -> None:
        """Gives a weight another content, and remembers that."""
        self.weights[name] = tensor
        self.changed.add(name)

    def crossing(self, nodes: Sequence[ir.Node]) -> set[ir.Value]:
        """Values that are made before the end of `nodes`, a prefix of the graph, and read after it."""
        inside = set(nodes)
        made = {v for n in nodes for v in n.outputs} | set(self.inputs)
        later = {v for n in self.nodes if n not in inside for v in n.inputs if v is not None} | set(self.outputs)
        return made & later

    def _input(self, values: Env, value: ir.Value | None) -> Tensor | None:
        if value is None:
            return None
        name = self._names.get(value)
        return self.weights[name] if name is not None else values[value]


def as_tensor(array: np.ndarray | None) -> Tensor:
    """An array as a tensor that shares its memory; int4 becomes int8."""
    assert array is not None
    if array.dtype == ir.DataType.INT4.numpy():
        array = array.astype(np.int8)
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")  # of arrays mapped read-only from a file: nothing here writes to them
        array = np.asarray(array)
        if array.dtype.name == "bfloat16":  # which numpy does not have of its own
            return torch.from_numpy(array.view(np.int16)).view(torch.bfloat16)
        return torch.from_numpy(array)


def _last_uses(nodes: Sequence[ir.Node]) -> dict[ir.Value, ir.Node]:
    return {value: node for node in nodes for value in node.inputs if value is not None}


def _axis(node: ir.Node, default: int) -> int:
    return int(attribute(node, "axis", default))  # type: ignore[call-overload]


def _attention(node: ir.Node, x: list[Any]) -> Tensor:
    """Attention-23 on 3-D inputs; float mask added to the scores."""
    heads, kv_heads = (int(attribute(node, n)) for n in ("q_num_heads", "kv_num_heads"))  # type: ignore[call-overload]
    q, k, v = (
        t.unflatten(-1, (h, -1)).transpose(1, 2) for t, h in zip(x[:3], (heads, kv_heads, kv_heads), strict=True)
    )
    if kv_heads != heads:
        k, v = (t.repeat_interleave(heads // kv_heads, dim=1) for t in (k, v))
    mask = x[3] if len(x) > 3 else None
    causal = bool(attribute(node, "is_causal", 0))
    mixed = F.scaled_dot_product_attention(q, k, v, attn_mask=mask, is_causal=causal, scale=attribute(node, "scale"))  # type: ignore[arg-type]
    return mixed.transpose(1, 2).flatten(2)


def _cast(node: ir.Node, x: list[Any]) -> Tensor:
    return x[0].to(DTYPES[ir.DataType(int(attribute(node, "to")))])  # type: ignore[call-overload]


def _clip(_: ir.Node, x: list[Any]) -> Tensor:
    low, high = (x[i] if len(x) > i and x[i] is not None else None for i in (1, 2))
    return torch.clamp(x[0], low, high)


def _cumsum(node: ir.Node, x: list[Any]) -> Tensor:
    if attribute(node, "exclusive", 0) or attribute(node, "reverse", 0):
        raise SourceError(f"node {node.name!r}: exclusive or reverse CumSum has no counterpart in torch yet")
    return torch.cumsum(x[0], int(x[1]), dtype=x[0].dtype)


def _quantize(node: ir.Node, x: list[Any]) -> Tensor:
    """Half to even, saturating; the type of the zero point (uint8 where there is none) is the result's."""
    zero = x[2] if len(x) > 2 and x[2] is not None else torch.zeros((), dtype=torch.uint8)
    limits = torch.iinfo(zero.dtype)
    scaled = torch.round(x[0] / _spread(node, x[0], x[1]))
    return (scaled + _spread(node, x[0], zero)).clamp(limits.min, limits.max).to(zero.dtype)


def _dequantize(node: ir.Node, x: list[Any]) -> Tensor:
    zero = x[2] if len(x) > 2 and x[2] is not None else torch.zeros((), dtype=x[0].dtype)
    return (x[0].to(x[1].dtype) - _spread(node, x[0], zero)) * _spread(node, x[0], x[1])


def _spread(node: ir.Node, x: Tensor, vector: Tensor) -> Tensor:
    """A scale or zero point as it meets `x`: of everything, by channel of `axis`, or by block of it."""
    if vector.numel() == 1:
        return vector.reshape(())
    axis, block = _axis(node, 1), int(attribute(node, "block_size", 0))  # type: ignore[call-overload]
    if block:
        return vector.repeat_interleave(block, dim=axis)
    shape = [1] * x.ndim
    shape[axis] = -1
    return vector.reshape(shape)


def _quantize_tokens(_: ir.Node, x: list[Any]) -> Tensor:
    """The function `headway.QuantizeTokens`, see `quantized.tokens_function`."""
    low, high = x[0].amin(-1, keepdim=True).clamp(max=0), x[0].amax(-1, keepdim=True).clamp(min=0)
    scale = (high - low) / 255
    scale = torch.where(scale == 0, 1.0, scale)
    zero = torch.round(-low / scale)
    return ((torch.round(x[0] / scale) + zero).clamp(0, 255) - zero) * scale


def _div(_: ir.Node, x: list[Any]) -> Tensor:
    return x[0] / x[1] if x[0].is_floating_point() else torch.div(x[0], x[1], rounding_mode="trunc")


def _gather(node: ir.Node, x: list[Any]) -> Tensor:
    axis, table, index = _axis(node, 0), x[0], x[1]
    if axis == 0 and table.ndim == 2:
        return F.embedding(torch.where(index < 0, index + table.shape[0], index), table)
    flat = torch.where(index < 0, index + table.shape[axis], index).reshape(-1)
    picked = torch.index_select(table, axis, flat)
    axis %= table.ndim
    return picked.reshape(*table.shape[:axis], *index.shape, *table.shape[axis + 1 :])


def _gather_elements(node: ir.Node, x: list[Any]) -> Tensor:
    axis = _axis(node, 0)
    return torch.gather(x[0], axis, torch.where(x[1] < 0, x[1] + x[0].shape[axis], x[1]))


def _gather_nd(node: ir.Node, x: list[Any]) -> Tensor:
    data, index = x[0], x[1]
    batch = int(attribute(node, "batch_dims", 0))  # type: ignore[call-overload]
    grids = torch.meshgrid(*(torch.arange(n) for n in data.shape[:batch]), indexing="ij") if batch else ()
    extra = index.ndim - 1 - batch
    leading = tuple(g.reshape(*g.shape, *[1] * extra) for g in grids)
    return data[(*leading, *index.unbind(-1))]


def _gemm(node: ir.Node, x: list[Any]) -> Tensor:
    a = x[0].T if attribute(node, "transA", 0) else x[0]
    b = x[1].T if attribute(node, "transB", 0) else x[1]
    result = float(attribute(node, "alpha", 1.0)) * (a @ b)  # type: ignore[arg-type]
    return result + float(attribute(node, "beta", 1.0)) * x[2] if len(x) > 2 and x[2] is not None else result  # type: ignore[arg-type]


def _layer_norm(node: ir.Node, x: list[Any]) -> Tensor:
    start = _axis(node, -1) % x[0].ndim
    bias = x[2] if len(x) > 2 else None
    return F.layer_norm(x[0], x[0].shape[start:], x[1], bias, float(attribute(node, "epsilon", 1e-5)))  # type: ignore[arg-type]


def _pad(node: ir.Node, x: list[Any]) -> Tensor:
    if attribute(node, "mode", "constant") != "constant":
        raise SourceError(f"node {node.name!r}: only constant padding has a counterpart in torch yet")
    pads, rank = x[1], x[0].ndim
    axes = [a % rank for a in x[3]] if len(x) > 3 and x[3] is not None else list(range(rank))
    begins, ends = dict(zip(axes, pads, strict=False)), dict(zip(axes, pads[len(axes) :], strict=True))
    flat = [n for axis in reversed(range(rank)) for n in (begins.get(axis, 0), ends.get(axis, 0))]
    return F.pad(x[0], flat, value=float(x[2]) if len(x) > 2 and x[2] is not None else 0.0)


def reduce(function: Callable[..., Tensor]) -> Callable[[ir.Node, list[Any]], Tensor]:
    """An operator Reduce… from what torch has for it; without axes it goes over all of them."""

    def apply(node: ir.Node, x: list[Any]) -> Tensor:
        axes = x[1] if len(x) > 1 and x[1] is not None else list(range(x[0].ndim))
        return function(x[0], dim=axes, keepdim=bool(attribute(node, "keepdims", 1)))

    return apply


def _reshape(node: ir.Node, x: list[Any]) -> Tensor:
    keep = not attribute(node, "allowzero", 0)
    # A symbolic size is not compared with 0: that would tie an exported graph to the answer.
    return x[0].reshape([x[0].shape[i] if keep and isinstance(n, int) and n == 0 else n for i, n in enumerate(x[1])])


def _shape(node: ir.Node, x: list[Any]) -> Tensor:
    start, end = (attribute(node, name) for name in ("start", "end"))
    return torch.tensor(list(x[0].shape)[start:end], dtype=torch.int64)  # type: ignore[index]


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
    axis, keep = _axis(node, 0), bool(attribute(node, "keepdims", 1))
    if attribute(node, "select_last_index", 0):
        return x[0].shape[axis] - 1 - torch.argmax(x[0].flip(axis), dim=axis, keepdim=keep)
    return torch.argmax(x[0], dim=axis, keepdim=keep)


def _padded_attention(node: ir.Node, x: list[Any]) -> Tensor:
    """`headway.PaddedAttention`, with a bias or without, as `kernels.reference` states it."""
    q, k, v, lengths, bias = (*(t.double().numpy() for t in x), None)[:5]
    heads, scale, causal = (attribute(node, name, 0) for name in ("heads", "scale", "causal"))
    return torch.from_numpy(reference.padded_attention(q, k, v, lengths, heads, scale, bias, bool(causal))).float()  # type: ignore[arg-type]


def _masked_softmax(node: ir.Node, x: list[Any]) -> Tensor:
    """`headway.MaskedSoftmax`, with a bias or without, as `kernels.reference` states it."""
    scores, bias = (*(t.double().numpy() for t in x), None)[:2]
    return torch.from_numpy(reference.masked_softmax(scores, bias, attribute(node, "scale", 1.0))).float()  # type: ignore[arg-type]


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
"""Places of inputs that operators take as plain numbers, not as tensors."""

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
    "Gelu": lambda node, x: F.gelu(x[0], approximate=str(attribute(node, "approximate", "none"))),
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
    "QuantizeTokens": _quantize_tokens,
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
    "Transpose": lambda node, x: x[0].permute(tuple(attribute(node, "perm", tuple(reversed(range(x[0].ndim)))))),  # type: ignore[arg-type]
    "Unsqueeze": _unsqueeze,
    "Where": lambda _, x: torch.where(x[0], x[1], x[2]),
}
