"""Run the canonical graph in torch: for gradients, for statistics of inner activations, for training. Imports torch.

Own code, because nothing published does this. ONNX's reference evaluator computes in numpy, without gradients. onnx2torch
has no `Attention`, `GatherElements` or `DequantizeLinear`, and gives modules whose inner values cannot be read or replaced
by their names in the graph, which every pass and every statistic here needs.
"""

import warnings
from collections.abc import Callable, Iterable, Mapping, Sequence

import numpy as np
import onnx_ir as ir
import torch

from .edit import constant
from .quantized import DOMAIN
from .torch_node import no_counterpart, not_computed
from .torch_operators import OPERATORS, PLAIN, Tensor

Env = dict[ir.Value, Tensor]
Hook = Callable[[Tensor], Tensor]

_REFUSALS = (RuntimeError, IndexError, KeyError, TypeError, ValueError)
"""What torch raises for inputs that it does not take."""


class TorchGraph:
    """A canonical model to run. `weights` maps initializer names to tensors, which share the model's memory where they can.

    Assigning to `weights`, or calling `change`, alters what later runs compute. SourceError names a node that torch has
    no counterpart for, or does not compute.
    """

    def __init__(self, model: ir.Model):
        self.nodes = list(model.graph)
        for node in self.nodes:
            if node.op_type not in OPERATORS or node.domain not in ("", "ai.onnx", DOMAIN):
                raise no_counterpart(node)
        self.inputs = list(model.graph.inputs)
        self.outputs = list(model.graph.outputs)
        self.weights: dict[str, Tensor] = {
            name: as_tensor(constant(value)) for name, value in model.graph.initializers.items()
        }
        self.changed: set[str] = set()
        self._names = {value: name for name, value in model.graph.initializers.items()}
        self._last_use = _last_uses(self.nodes)

    def feeds(self, arrays: Mapping[str, np.ndarray]) -> Env:
        """Return the graph's inputs as tensors; arrays that it does not read are ignored."""
        return {v: torch.from_numpy(np.ascontiguousarray(arrays[str(v.name)])) for v in self.inputs}

    def run(
        self,
        env: Env,
        fetch: Iterable[ir.Value],
        *,
        hooks: Mapping[ir.Value, Hook] | None = None,
        nodes: Sequence[ir.Node] | None = None,
    ) -> Env:
        """Compute `fetch` from `env` by the nodes given (default: all). A hook replaces a value as soon as it is computed.

        Values that nothing later reads are dropped on the way.
        """
        wanted = set(fetch)
        values = dict(env)
        for node in self.nodes if nodes is None else nodes:
            results = self._results(node, [self._input(values, v) for v in node.inputs])
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
        """Return all outputs by name."""
        results = self.run(self.feeds(arrays), self.outputs, hooks=hooks)
        return {str(v.name): results[v] for v in self.outputs}

    def compute(self, node: ir.Node, inputs: list[Tensor | None]) -> Tensor | tuple[Tensor, ...]:
        """Return the results of one node."""
        plain = PLAIN.get(node.op_type, ())
        return OPERATORS[node.op_type](
            node, [x.tolist() if i in plain and x is not None else x for i, x in enumerate(inputs)]
        )

    def _results(self, node: ir.Node, inputs: list[Tensor | None]) -> Tensor | tuple[Tensor, ...]:
        """Compute a node. SourceError where torch refuses; a lack of memory is no fault of the graph, and stays what it is."""
        try:
            return self.compute(node, inputs)
        except _REFUSALS as error:
            if "memory" in str(error) or "alloc" in str(error):
                raise
            raise not_computed(node, error) from error

    def change(self, name: str, tensor: Tensor) -> None:
        """Replace the content of a weight, and note its name in `changed`."""
        self.weights[name] = tensor
        self.changed.add(name)

    def crossing(self, nodes: Sequence[ir.Node]) -> set[ir.Value]:
        """Return the values computed by `nodes`, a prefix of the graph, or given to it, that are read after it."""
        inside = set(nodes)
        available = {v for n in nodes for v in n.outputs} | set(self.inputs)
        later = {v for n in self.nodes if n not in inside for v in n.inputs if v is not None} | set(self.outputs)
        return available & later

    def _input(self, values: Env, value: ir.Value | None) -> Tensor | None:
        if value is None:
            return None
        name = self._names.get(value)
        return self.weights[name] if name is not None else values[value]


def as_tensor(array: np.ndarray | None) -> Tensor:
    """Return an array as a tensor that shares its memory; int4 becomes int8."""
    assert array is not None
    if array.dtype == ir.DataType.INT4.numpy():
        array = array.astype(np.int8)
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")  # about arrays mapped read-only from a file: nothing here writes to them
        array = np.asarray(array)
        if array.dtype.name == "bfloat16":  # numpy has no bfloat16 of its own
            return torch.from_numpy(array.view(np.int16)).view(torch.bfloat16)
        return torch.from_numpy(array)


def _last_uses(nodes: Sequence[ir.Node]) -> dict[ir.Value, ir.Node]:
    return {value: node for node in nodes for value in node.inputs if value is not None}
