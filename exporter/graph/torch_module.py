"""A canonical model as a torch module that `torch.export` takes: for runtimes that read torch, not ONNX. Imports torch.

Every node is one small submodule, so that an exported graph says by its module stack which node an operator comes from.
A matmul by trained weights, with its bias, is one linear layer; int8 weights, their scales and rounding per token are part
of it. Sizes are plain integers on the way, so that the length of the sequence stays symbolic; tensors only where a step computes
with them.
"""

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Any

import onnx_ir as ir
from torch import nn

from ...errors import SourceError
from .edit import constant, consumers
from .export_operators import EXPORT_OPERATORS
from .linear_layers import Linear, LinearWeights, TrainedMatmul, trained_matmul
from .mask import PADDING_BIAS
from .quantized import DOMAIN
from .torch_graph import as_tensor
from .torch_node import described
from .torch_operators import OPERATORS, PLAIN, Tensor
from .torch_sizes import SIZE_OPERATORS, plain_numbers, size_as_tensor, sizes_of, stays_size


class TorchModule(nn.Module):
    """A canonical model; inputs and outputs are those of the graph, in its order.

    `names[i]` is the source's module behind `steps[i]`, or else the value. `linear` makes the layer of each trained matmul, for
    targets that need one in a form of their own. Raises SourceError naming a node that has no counterpart in torch.
    """

    def __init__(self, model: ir.Model, linear: Callable[[LinearWeights], nn.Module] = Linear):
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
        """Return the outputs for the graph's inputs, int64 `[batch, sequence]`."""
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
        """Return the outputs by name."""
        outputs = self.module(*(feeds[name] for name in self.module.input_names))
        return dict(zip(self.module.output_names, outputs, strict=True))


@dataclass(frozen=True)
class _Computed:
    """An input that an earlier step computed, or the caller gave. A size is given as a tensor to steps that compute with it."""

    value: ir.Value
    as_tensor: bool = False

    def read(self, env: dict[ir.Value, Any]) -> Any:
        """Return its tensor, or its size."""
        return size_as_tensor(env[self.value]) if self.as_tensor else env[self.value]


@dataclass(frozen=True)
class _Sizes:
    """A constant that a step takes as plain numbers: a number, a list, or None."""

    content: Any

    def read(self, env: dict[ir.Value, Any]) -> Any:
        """Return the numbers."""
        return self.content


@dataclass
class _Planned:
    """One step: what it reads and where its results go. `result` names it."""

    step: nn.Module
    reads: list[_Computed | _Sizes]
    outputs: Sequence[ir.Value]

    @property
    def result(self) -> ir.Value:
        """Its first output."""
        return self.outputs[0]


class _Step(nn.Module):
    """One node: its function on its inputs; constant tensors are buffers, inserted at their indices."""

    def __init__(self, function: Callable[..., Any], node: ir.Node, constants: dict[int, Tensor]):
        super().__init__()
        self.function, self.node, self.places = function, node, tuple(constants)
        for place, tensor in constants.items():
            self.register_buffer(f"constant_{place}", tensor)

    def forward(self, *inputs: Any) -> Any:
        """Return the result of the node, or a tuple of results."""
        x = list(inputs)
        for place in self.places:
            x.insert(place, getattr(self, f"constant_{place}"))
        return self.function(self.node, x)


class _Builder:
    """Decide for each node what its step is, and for each input whether it is a tensor or plain numbers."""

    def __init__(self, graph: ir.Graph, linear: Callable[[LinearWeights], nn.Module]):
        self.linear = linear
        self._sizes: set[ir.Value] = set()
        self._tensors: dict[ir.Value, Tensor] = {}
        self._layers: dict[tuple[ir.Value, ir.Value | None, bool], nn.Module] = {}
        self._inside: set[ir.Node] = set()
        """Nodes that are part of another's step."""
        for node in graph:
            matmul = trained_matmul(node)
            if matmul is None:
                continue
            self._inside |= {
                n for n in matmul.made_of if all(trained_matmul(r) is not None for r in consumers(n.outputs[0]))
            }
            if matmul.add is not None:
                self._inside.add(matmul.add)

    def plan(self, node: ir.Node) -> _Planned | None:
        """Return the step of a node; None where the node is part of another's. SourceError where torch has no counterpart."""
        if node in self._inside:
            return None
        if node.domain not in ("", "ai.onnx", DOMAIN):
            raise SourceError(f"{described(node)}: the operator has no counterpart in torch")
        matmul = trained_matmul(node)
        if matmul is not None:
            return self._linear_layer(matmul)
        first = node.inputs[0] if node.inputs else None
        if first is not None and node.op_type == "Expand" and _only_attention(node.outputs[0]):
            return _Planned(_Step(lambda _, x: x[0], node, {}), [_Computed(first)], node.outputs)
        sizes = [v for v in node.inputs if v is not None and v in self._sizes]
        if stays_size(node) and sizes and all(v is None or self._is_size(v) for v in node.inputs):
            return self._of_sizes(node)
        if first is not None and node.op_type == "Shape":
            self._sizes.update(node.outputs)
            return _Planned(_Step(sizes_of, node, {}), [_Computed(first)], node.outputs)
        return self._of_tensors(node)

    def _of_sizes(self, node: ir.Node) -> _Planned:
        self._sizes.update(node.outputs)
        reads = [_Computed(v) if v in self._sizes else _Sizes(plain_numbers(v)) for v in node.inputs]
        return _Planned(_Step(SIZE_OPERATORS[node.op_type], node, {}), reads, node.outputs)

    def _of_tensors(self, node: ir.Node) -> _Planned:
        function, plain = EXPORT_OPERATORS.get(node.op_type, (OPERATORS.get(node.op_type), PLAIN.get(node.op_type, ())))
        if function is None:
            raise SourceError(f"{described(node)}: the operator has no counterpart in torch yet")
        reads: list[_Computed | _Sizes] = []
        constants: dict[int, Tensor] = {}
        for place, value in enumerate(node.inputs):
            if value is None or (place in plain and value.is_initializer()):
                reads.append(_Sizes(plain_numbers(value)))
            elif value.is_initializer():
                constants[place] = self._tensor(value)
            else:
                reads.append(_Computed(value, as_tensor=value in self._sizes and place not in plain))
        return _Planned(_Step(function, node, constants), reads, node.outputs)

    def _is_size(self, value: ir.Value) -> bool:
        return value in self._sizes or (value.is_initializer() and plain_numbers(value) is not None)

    def _tensor(self, value: ir.Value) -> Tensor:
        if value not in self._tensors:
            self._tensors[value] = as_tensor(constant(value))
        return self._tensors[value]

    def _linear_layer(self, matmul: TrainedMatmul) -> _Planned:
        key = (matmul.weight, matmul.bias, matmul.per_token)
        if key not in self._layers:  # layers that share weights (ALBERT) are one
            weight = self._tensor(matmul.weight)
            scale = self._tensor(matmul.scale) if matmul.scale is not None else None
            if not matmul.transposed:
                weight = weight.T.contiguous()
            if scale is not None:
                scale = scale.reshape(-1, 1) if scale.ndim < 2 else scale.T.contiguous()
                scale = scale.expand(weight.shape[0], -1).contiguous()
            bias = self._tensor(matmul.bias) if matmul.bias is not None else None
            weights = LinearWeights(str(matmul.weight.name), weight, scale, bias, matmul.per_token)
            self._layers[key] = self.linear(weights)
        return _Planned(self._layers[key], [_Computed(matmul.x)], [matmul.result])


def _named(node: ir.Node, result: ir.Value) -> str:
    """Return the source's module of a step where the graph tells: a lookup's embedding, an attention's query; else the value's name."""
    first = node.inputs[0] if node.inputs else None
    parent = str(first.name).rpartition(".")[0] if first is not None else ""
    of_module = node.op_type == "Attention" or (
        node.op_type == "Gather" and first is not None and first.is_initializer()
    )
    return parent if of_module and parent else str(result.name)


def _only_attention(value: ir.Value) -> bool:
    """Return True for a padding bias that only attentions read: it broadcasts there, and need not be expanded."""
    readers = consumers(value)
    return str(value.name) == PADDING_BIAS and bool(readers) and all(n.op_type == "Attention" for n in readers)
