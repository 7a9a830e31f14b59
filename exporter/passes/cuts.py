"""Cuts rows and columns out of weights, all of a pass's at once and only if every reader of a weight agrees."""

from dataclasses import dataclass, field

import numpy as np
import onnx_ir as ir

from ...errors import UsageError
from ..graph.anatomy import Projection
from ..graph.edit import bias_add, constant, consumers, is_vector


@dataclass
class Cuts:
    """Collects, for each weight and axis, the indices to keep; `apply` makes them."""

    _kept: dict[tuple[ir.Value, int], np.ndarray] = field(default_factory=dict)
    _readers: dict[tuple[ir.Value, int], set[ir.Node]] = field(default_factory=dict)
    _results: dict[ir.Value, int] = field(default_factory=dict)

    def columns(self, node: ir.Node, kept: np.ndarray) -> None:
        """Output features of a MatMul, its bias included."""
        self._keep(node, node.inputs[1], 1, kept)
        bias = bias_add(node)
        if bias is not None:
            self._keep(bias, next(v for v in bias.inputs if is_vector(v)), 0, kept)
            self._results[bias.outputs[0]] = len(kept)
        self._results[node.outputs[0]] = len(kept)

    def rows(self, projection: Projection, kept: np.ndarray) -> None:
        """Input features of a projection."""
        node = projection.first or projection.node
        self._keep(node, node.inputs[1], 0, kept)

    def _keep(self, node: ir.Node, weight: ir.Value | None, axis: int, kept: np.ndarray) -> None:
        if weight is None or not weight.is_initializer():
            raise UsageError(
                f"node {node.name!r}: its weight is quantized or transposed at run time; remove structure before quantizing"
            )
        key = (weight, axis)
        if key in self._kept and not np.array_equal(self._kept[key], kept):
            raise UsageError(f"{weight.name} is shared, and its users are asked to keep different parts of it")
        self._kept[key] = kept
        self._readers.setdefault(key, set()).add(node)

    def check(self) -> None:
        """UsageError where a weight has readers that were not asked to change with it."""
        for (weight, _), readers in self._readers.items():
            left = [n for n in consumers(weight) if n not in readers]
            if left:
                raise UsageError(
                    f"{weight.name} is shared with node {left[0].name!r}: ask for the same removal everywhere it is used"
                )

    def apply(self) -> None:
        self.check()
        for (weight, axis), kept in self._kept.items():
            array = constant(weight)
            assert array is not None
            set_array(weight, np.ascontiguousarray(np.take(array, kept, axis=axis)))
        for value, size in self._results.items():
            resize(value, size)


def set_array(weight: ir.Value, array: np.ndarray) -> None:
    """Gives an initializer a new content."""
    weight.const_value = ir.Tensor(array, name=weight.name)
    weight.shape = ir.Shape(array.shape)


def resize(value: ir.Value, size: int) -> None:
    """Notes a new length of the last axis."""
    if value.shape is not None:
        value.shape = ir.Shape([*list(value.shape)[:-1], size])
