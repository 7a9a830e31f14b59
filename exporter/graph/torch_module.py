"""A canonical model as a torch module that `torch.export` takes: for runtimes that read torch, not ONNX. Imports torch.

Every node is one small submodule, so that an exported graph says by its module stack which node an operator comes from. Sizes are
plain integers on the way (`Shape` and what is computed from it), never tensors: the length of the sequence stays
symbolic. A product by a trained matrix, with its bias, is one linear layer, whole numbers, scales and rounding by token included.
"""

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
import onnx_ir as ir
import torch
import torch.nn.functional as F
from torch import nn

from ...errors import SourceError
from .edit import attribute, bias_add, bias_of, constant, consumers, dims, producer
from .mask import PADDING_BIAS
from .quantized import DOMAIN, TOKENS, matrix_of
from .torch_graph import OPERATORS, PLAIN, as_tensor, reduce

Tensor = torch.Tensor

_LARGEST_SIZE_LIST = 64
"""Integers of so few elements may be sizes or axes; longer ones are tables."""


@dataclass(frozen=True)
class Product:
    """`y = x Wᵀ + b`, a product by a trained matrix. `weight` is float32, or int8 with `scale`; `[out, in]`.

    `scale` is float32 `[out, 1]`, or `[out, blocks]`. `by_token`: `x` is rounded for each token as in
    `quantized.tokens_function`. `name` is that of the weight.
    """

    name: str
    weight: Tensor
    scale: Tensor | None
    bias: Tensor | None
    by_token: bool

    def float_weight(self) -> Tensor:
        """float32 `[out, in]`."""
        if self.scale is None:
            return self.weight
        steps = self.scale.repeat_interleave(self.weight.shape[1] // self.scale.shape[1], dim=1)
        return self.weight.to(torch.float32) * steps


class Linear(nn.Module):
    """A product as it is: int8 matrices are made float32 when they are read, values are rounded by token where they should be."""

    def __init__(self, product: Product):
        super().__init__()
        self.by_token = product.by_token
        self.weight = nn.Parameter(product.weight, requires_grad=False)
        self.scale = nn.Parameter(product.scale, requires_grad=False) if product.scale is not None else None
        self.bias = nn.Parameter(product.bias, requires_grad=False) if product.bias is not None else None

    def forward(self, x: Tensor) -> Tensor:
        x = OPERATORS[TOKENS](None, [x]) if self.by_token else x  # type: ignore[arg-type, assignment]
        product = Product("", self.weight, self.scale, self.bias, self.by_token)
        return F.linear(x, product.float_weight(), self.bias)


class TorchModule(nn.Module):
    """Inputs and outputs are those of the graph, in its order; `names[i]` is the module, or else the value, behind `steps[i]`.

    `linear` makes the layer of each product, for targets that want theirs in a form of their own. Raises SourceError naming a
    node that has no counterpart.
    """

    def __init__(self, model: ir.Model, linear: Callable[[Product], nn.Module] = Linear):
        super().__init__()
        graph = model.graph
        self.input_names = tuple(str(v.name) for v in graph.inputs)
        self.output_names = tuple(str(v.name) for v in graph.outputs)
        self.names: list[str] = []
        self.steps = nn.ModuleList()
        self._inputs = list(graph.inputs)
        self._outputs = list(graph.outputs)
        self._plan: list[_Planned] = []
        self._last: dict[ir.Value, int] = {}
        self.eval()
        builder = _Builder(graph, linear)
        for node in graph:
            planned = builder.plan(node)
            if planned is not None:
                self.names.append(_named(node, planned.result))
                self.steps.append(planned.step)
                self._plan.append(planned)
        for index, planned in enumerate(self._plan):
            self._last |= dict.fromkeys((r.value for r in planned.reads if isinstance(r, _Computed)), index)

    def forward(self, *inputs: Tensor) -> tuple[Tensor, ...]:
        env: dict[ir.Value, Any] = dict(zip(self._inputs, inputs, strict=True))
        for index, (planned, step) in enumerate(zip(self._plan, self.steps, strict=True)):
            results = step(*(r.read(env) for r in planned.reads))
            several = results if isinstance(results, tuple) else (results,)
            env.update(zip(planned.outputs, several, strict=False))
            for read in planned.reads:
                if isinstance(read, _Computed) and self._last[read.value] == index and read.value not in self._outputs:
                    env.pop(read.value, None)
        return tuple(env[v] for v in self._outputs)


class NamedModule(nn.Module):
    """A `TorchModule` that takes its inputs by name and gives its outputs by name, for converters that keep such names."""

    def __init__(self, module: TorchModule):
        super().__init__()
        self.module = module
        self.eval()

    def forward(self, **feeds: Tensor) -> dict[str, Tensor]:
        outputs = self.module(*(feeds[name] for name in self.module.input_names))
        return dict(zip(self.module.output_names, outputs, strict=True))


@dataclass(frozen=True)
class _Computed:
    """An input that a step before made, or the caller gave."""

    value: ir.Value

    def read(self, env: dict[ir.Value, Any]) -> Any:
        return env[self.value]


@dataclass(frozen=True)
class _Sizes:
    """A constant that a step takes as plain numbers: a number, a list, or None."""

    content: Any

    def read(self, env: dict[ir.Value, Any]) -> Any:
        return self.content


@dataclass
class _Planned:
    """One step: what it reads and where its results go. `result` names it."""

    step: nn.Module
    reads: list[_Computed | _Sizes]
    outputs: Sequence[ir.Value]

    @property
    def result(self) -> ir.Value:
        return self.outputs[0]


class _Step(nn.Module):
    """One node: its function on what it reads, with the constants that it reads as tensors in their places."""

    def __init__(self, function: Callable[..., Any], node: ir.Node, constants: dict[int, Tensor]):
        super().__init__()
        self.function, self.node, self.places = function, node, tuple(constants)
        for place, tensor in constants.items():
            self.register_buffer(f"constant_{place}", tensor)

    def forward(self, *inputs: Any) -> Any:
        x = list(inputs)
        for place in self.places:
            x.insert(place, getattr(self, f"constant_{place}"))
        return self.function(self.node, x)


class _Builder:
    """Decides for each node what its step is, and for each input whether it is a tensor or plain numbers."""

    def __init__(self, graph: ir.Graph, linear: Callable[[Product], nn.Module]):
        self.linear = linear
        self._sizes: set[ir.Value] = set()
        self._tensors: dict[ir.Value, Tensor] = {}
        self._layers: dict[tuple[ir.Value, ir.Value | None, bool], nn.Module] = {}
        self._inside: set[ir.Node] = set()
        """Nodes that are part of another's step."""
        for node in graph:
            if node.op_type in ("MatMul", "Gemm") and (found := _matrix(node)) is not None:
                self._inside |= {
                    n for n in found.made_of if all(_matrix(r) is not None for r in consumers(n.outputs[0]))
                }
                self._inside |= {found.add} - {None}  # type: ignore[arg-type]

    def plan(self, node: ir.Node) -> _Planned | None:
        if node in self._inside:
            return None
        if node.domain not in ("", "ai.onnx", DOMAIN):
            raise SourceError(f"node {node.name!r}: {node.domain}.{node.op_type} has no counterpart in torch")
        matrix = _matrix(node)
        if matrix is not None:
            return self._product(node, matrix)
        if node.op_type == "Expand" and _only_attention(node.outputs[0]):
            return _Planned(_Step(lambda _, x: x[0], node, {}), [_Computed(node.inputs[0])], node.outputs)  # type: ignore[arg-type]
        sizes = [v for v in node.inputs if v is not None and v in self._sizes]
        if node.op_type in _SIZES and sizes and all(v is None or self._is_size(v) for v in node.inputs):
            return self._of_sizes(node)
        if node.op_type == "Shape":
            self._sizes.update(node.outputs)
            return _Planned(_Step(_shape, node, {}), [_Computed(node.inputs[0])], node.outputs)  # type: ignore[arg-type]
        return self._of_tensors(node)

    def _of_sizes(self, node: ir.Node) -> _Planned:
        self._sizes.update(node.outputs)
        reads = [_Computed(v) if v in self._sizes else _Sizes(_plain(v)) for v in node.inputs]
        return _Planned(_Step(_SIZES[node.op_type], node, {}), reads, node.outputs)

    def _of_tensors(self, node: ir.Node) -> _Planned:
        function, plain = _OWN.get(node.op_type, (OPERATORS.get(node.op_type), PLAIN.get(node.op_type, ())))
        if function is None:
            raise SourceError(f"node {node.name!r}: {node.op_type} has no counterpart in torch yet")
        reads: list[_Computed | _Sizes] = []
        constants: dict[int, Tensor] = {}
        for place, value in enumerate(node.inputs):
            if value is None or (place in plain and value.is_initializer()):
                reads.append(_Sizes(_plain(value)))
            elif value.is_initializer():
                constants[place] = self._tensor(value)
            elif value in self._sizes and place not in plain:
                raise SourceError(
                    f"node {node.name!r}: {node.op_type} computes with the size {value.name!r} as a tensor"
                )
            else:
                reads.append(_Computed(value))
        return _Planned(_Step(function, node, constants), reads, node.outputs)

    def _is_size(self, value: ir.Value) -> bool:
        return value in self._sizes or (value.is_initializer() and _plain(value) is not None)

    def _tensor(self, value: ir.Value) -> Tensor:
        if value not in self._tensors:
            self._tensors[value] = as_tensor(constant(value))
        return self._tensors[value]

    def _product(self, node: ir.Node, matrix: "_Matrix") -> _Planned:
        key = (matrix.weight, matrix.bias, matrix.by_token)
        if key not in self._layers:  # layers that share weights (ALBERT) are one
            weight = self._tensor(matrix.weight)
            scale = self._tensor(matrix.scale) if matrix.scale is not None else None
            if not matrix.transposed:
                weight = weight.T.contiguous()
            if scale is not None:
                scale = scale.reshape(-1, 1) if scale.ndim < 2 else scale.T.contiguous()
                scale = scale.expand(weight.shape[0], -1).contiguous()
            bias = self._tensor(matrix.bias) if matrix.bias is not None else None
            self._layers[key] = self.linear(Product(str(matrix.weight.name), weight, scale, bias, matrix.by_token))
        return _Planned(self._layers[key], [_Computed(matrix.x)], [matrix.result])


@dataclass(frozen=True)
class _Matrix:
    """What makes up a product: the nodes that its step stands for, in place of them all."""

    x: ir.Value
    weight: ir.Value
    scale: ir.Value | None
    bias: ir.Value | None
    by_token: bool
    transposed: bool
    """The weight is held as `[out, in]`."""
    result: ir.Value
    made_of: tuple[ir.Node, ...] = ()
    """Nodes before the product: dequantization, a transposed table, rounding by token."""
    add: ir.Node | None = None


def _matrix(node: ir.Node) -> _Matrix | None:
    """The product that ends in a MatMul or Gemm, None of another node. Its bias is part of it where nothing else reads between."""
    if node.op_type == "Gemm":
        return _gemm(node)
    if node.op_type != "MatMul":
        return None
    x, weight = node.inputs
    whole = matrix_of(node)
    flipped = producer(weight, "Transpose")
    scale, transposed = None, False
    nodes: list[ir.Node] = []
    if whole is not None:
        weight, scale = whole
        nodes.append(node.inputs[1].producer())  # type: ignore[union-attr, arg-type]
    elif flipped is not None and flipped.inputs[0] is not None and flipped.inputs[0].is_initializer():
        weight, transposed = flipped.inputs[0], True
        nodes.append(flipped)
    if x is None or weight is None or not weight.is_initializer() or len(dims(weight) or ()) != 2:
        return None
    if weight.dtype not in (ir.DataType.FLOAT, ir.DataType.INT8, ir.DataType.INT4):
        return None
    tokens = producer(x, TOKENS)
    if tokens is not None and tokens.inputs[0] is not None:
        x = tokens.inputs[0]
        nodes.append(tokens)
    add, result, bias = bias_add(node), node.outputs[0], None
    if add is not None and len(consumers(result)) == 1 and not result.is_graph_output():
        bias, result = bias_of(add), add.outputs[0]
    else:
        add = None
    return _Matrix(x, weight, scale, bias, tokens is not None, transposed, result, tuple(nodes), add)


def _gemm(node: ir.Node) -> _Matrix | None:
    x, weight, bias = (*node.inputs, None)[:3]
    plain = all(attribute(node, name, 1.0) == 1.0 for name in ("alpha", "beta")) and not attribute(node, "transA", 0)
    if x is None or weight is None or not plain or not weight.is_initializer() or weight.dtype != ir.DataType.FLOAT:
        return None
    if bias is not None and (not bias.is_initializer() or len(dims(bias) or ()) != 1):
        return None
    return _Matrix(x, weight, None, bias, False, bool(attribute(node, "transB", 0)), node.outputs[0])


def _named(node: ir.Node, result: ir.Value) -> str:
    """The source's module that a step is of where the graph tells: of a lookup its table's, of an attention its queries'."""
    first = node.inputs[0] if node.inputs else None
    parent = str(first.name).rpartition(".")[0] if first is not None else ""
    of_module = node.op_type == "Attention" or (
        node.op_type == "Gather" and first is not None and first.is_initializer()
    )
    return parent if of_module and parent else str(result.name)


def _only_attention(value: ir.Value) -> bool:
    """True for a padding bias that attentions alone read: it broadcasts there, and need not be spread out."""
    readers = consumers(value)
    return str(value.name) == PADDING_BIAS and bool(readers) and all(n.op_type == "Attention" for n in readers)


def _plain(value: ir.Value | None) -> Any:
    """A small constant as a number or a list; None where it is no such thing."""
    if value is None or value.const_value is None or value.const_value.size > _LARGEST_SIZE_LIST:
        return None
    array = constant(value)
    return None if array is None else np.asarray(array).tolist()


# Sizes: a number, or a list of numbers, each plain or symbolic.


def _shape(node: ir.Node, x: list[Any]) -> list[Any]:
    start, end = (attribute(node, name) for name in ("start", "end"))
    return list(x[0].shape)[start:end]  # type: ignore[index]


def _each(function: Callable[[Any, Any], Any]) -> Callable[[ir.Node, list[Any]], Any]:
    """Element by element, a number meeting every element of a list."""

    def apply(_: ir.Node, x: list[Any]) -> Any:
        a, b = x
        if not isinstance(a, list) and not isinstance(b, list):
            return function(a, b)
        length = max(len(v) if isinstance(v, list) else 1 for v in (a, b))
        a, b = (v * (length // len(v)) if isinstance(v, list) else [v] * length for v in (a, b))
        return [function(p, q) for p, q in zip(a, b, strict=True)]

    return apply


def _joined(_: ir.Node, x: list[Any]) -> list[Any]:
    return [n for part in x for n in (part if isinstance(part, list) else [part])]


def _picked(_: ir.Node, x: list[Any]) -> Any:
    return [x[0][i] for i in x[1]] if isinstance(x[1], list) else x[0][x[1]]


def _part(_: ir.Node, x: list[Any]) -> list[Any]:
    step = x[4][0] if len(x) > 4 and x[4] is not None else 1
    return x[0][x[1][0] : x[2][0] : step]


_SIZES: dict[str, Callable[[ir.Node, list[Any]], Any]] = {
    "Add": _each(lambda a, b: a + b),
    "Cast": lambda _, x: x[0],
    "Concat": _joined,
    "Div": _each(lambda a, b: a // b),
    "Gather": _picked,
    "Identity": lambda _, x: x[0],
    "Mul": _each(lambda a, b: a * b),
    "Reshape": lambda _, x: _joined(_, [x[0]]) if x[1] else x[0],
    "Slice": _part,
    "Squeeze": lambda _, x: x[0][0] if isinstance(x[0], list) and len(x[0]) == 1 else x[0],
    "Sub": _each(lambda a, b: a - b),
    "Unsqueeze": lambda _, x: x[0] if isinstance(x[0], list) else [x[0]],
}


# Operators in a form that is exported well; the numbers are the places of inputs taken as plain numbers.


def _attention(node: ir.Node, x: list[Any]) -> Tensor:
    """Written out: two products with a softmax between, which every delegate has. Queries are scaled, since they are fewer.

    With one text the heads stand in the place of the batch: no axis but the sequence is left to infer when heads are divided and
    joined, which delegates ask for.
    """
    heads, kv_heads = (int(attribute(node, n)) for n in ("q_num_heads", "kv_num_heads"))  # type: ignore[call-overload]
    if attribute(node, "is_causal", 0):
        raise SourceError(f"node {node.name!r}: a causal attention has no counterpart in a torch module yet")
    batch, mask = x[0].shape[0], x[3] if len(x) > 3 else None
    given = attribute(node, "scale")
    scale = float(given) if given is not None else (x[0].shape[2] // heads) ** -0.5  # type: ignore[arg-type]
    alone = isinstance(batch, int) and batch == 1
    q, k, v = (
        t.view(*(() if alone else (batch,)), -1, h, t.shape[2] // h)
        for t, h in zip((x[0] * scale, *x[1:3]), (heads, kv_heads, kv_heads), strict=True)
    )
    q, k, v = q.transpose(-3, -2), k.transpose(-3, -2).transpose(-2, -1), v.transpose(-3, -2)
    if kv_heads != heads:
        k, v = (t.repeat_interleave(heads // kv_heads, dim=-3) for t in (k, v))
    product = torch.bmm if alone else torch.matmul
    scores = product(q, k)
    if mask is not None:
        scores = scores + (mask.squeeze(0) if alone and mask.ndim == 4 else mask)
    mixed = product(torch.softmax(scores, dim=-1), v).transpose(-3, -2).contiguous()
    return mixed.view(batch, -1, mixed.shape[-2] * mixed.shape[-1])


def _gelu(node: ir.Node, x: list[Any]) -> Tensor:
    """The tanh form is written out: delegates compute the exact one for either."""
    if attribute(node, "approximate", "none") == "none":
        return F.gelu(x[0])
    inner = (x[0] * x[0] * x[0] * 0.044715 + x[0]) * (2 / np.pi) ** 0.5
    return x[0] * 0.5 * (torch.tanh(inner) + 1)


def _gather(node: ir.Node, x: list[Any]) -> Tensor:
    axis, table, index = int(attribute(node, "axis", 0)), x[0], x[1]  # type: ignore[call-overload]
    if isinstance(index, int):
        return table.select(axis, index)
    if isinstance(index, list):
        index = torch.tensor(index, dtype=torch.int64)
    if axis == 0 and table.ndim == 2:
        return F.embedding(index, table)
    axis %= table.ndim
    picked = torch.index_select(table, axis, index.reshape(-1))
    return picked.reshape(*table.shape[:axis], *index.shape, *table.shape[axis + 1 :])


def _slice(node: ir.Node, x: list[Any]) -> Tensor:
    starts, ends = x[1], x[2]
    axes = x[3] if len(x) > 3 and x[3] is not None else list(range(len(starts)))
    steps = x[4] if len(x) > 4 and x[4] is not None else [1] * len(starts)
    result = x[0]
    for start, end, axis, step in zip(starts, ends, axes, steps, strict=True):
        if step < 1:
            raise SourceError(
                f"node {node.name!r}: a Slice that runs backwards has no counterpart in a torch module yet"
            )
        result = torch.ops.aten.slice.Tensor(result, axis, start, end, step)
    return result


def _expand(_: ir.Node, x: list[Any]) -> Tensor:
    missing = len(x[1]) - x[0].ndim
    shape = [1] * missing + list(x[0].shape)
    # An axis of 1 in the wish leaves the tensor's own length, as ONNX has it.
    return x[0].expand([own if isinstance(n, int) and n == 1 else n for own, n in zip(shape, x[1], strict=True)])


def _of_two(function: Callable[[Tensor, Tensor], Tensor]) -> Callable[[ir.Node, list[Any]], Tensor]:
    def apply(_: ir.Node, x: list[Any]) -> Tensor:
        result = x[0]
        for other in x[1:]:
            result = function(result, other)
        return result

    return apply


_OWN: dict[str, tuple[Callable[[ir.Node, list[Any]], Any], tuple[int, ...]]] = {
    "Attention": (_attention, ()),
    "Clip": (OPERATORS["Clip"], (1, 2)),
    "CumSum": (lambda _, x: torch.cumsum(x[0], x[1], dtype=x[0].dtype), (1,)),
    "Expand": (_expand, (1,)),
    "Gather": (_gather, (1,)),
    "Gelu": (_gelu, ()),
    "GatherElements": (lambda node, x: torch.gather(x[0], int(attribute(node, "axis", 0)), x[1]), ()),  # type: ignore[call-overload]
    "Max": (_of_two(torch.maximum), ()),
    "Min": (_of_two(torch.minimum), ()),
    "Pad": (OPERATORS["Pad"], (1, 2, 3)),
    "Pow": (OPERATORS["Pow"], (1,)),
    "Range": (lambda _, x: torch.arange(x[0], x[1], x[2]), (0, 1, 2)),
    "ReduceL2": (reduce(lambda t, dim, keepdim: (t * t).sum(dim=dim, keepdim=keepdim).sqrt()), (1,)),
    "Slice": (_slice, (1, 2, 3, 4)),
}
