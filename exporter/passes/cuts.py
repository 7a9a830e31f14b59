"""Cut rows and columns out of weights: all cuts of a pass at once, and only if every reader of a weight agrees."""

from dataclasses import dataclass, field

import numpy as np
import onnx_ir as ir

from ...errors import UsageError
from ..graph.anatomy import Projection
from ..graph.edit import bias_add, constant, consumers, is_vector


@dataclass
class Cuts:
    """Collect for each weight and axis the indices to keep; `apply` makes the cuts."""

    _indices: dict[tuple[ir.Value, int], np.ndarray] = field(default_factory=dict)
    _readers: dict[tuple[ir.Value, int], set[ir.Node]] = field(default_factory=dict)
    _results: dict[ir.Value, int] = field(default_factory=dict)

    def columns(self, node: ir.Node, indices: np.ndarray) -> None:
        """Keep these output features of a MatMul, and of its bias."""
        self._keep(node, node.inputs[1], 1, indices)
        bias = bias_add(node)
        if bias is not None:
            self._keep(bias, next(v for v in bias.inputs if is_vector(v)), 0, indices)
            self._results[bias.outputs[0]] = len(indices)
        self._results[node.outputs[0]] = len(indices)

    def rows(self, projection: Projection, indices: np.ndarray) -> None:
        """Keep these input features of a projection."""
        self.kept_rows(projection.first or projection.node, indices)

    def kept_rows(self, node: ir.Node, indices: np.ndarray) -> None:
        """Keep these input features of a MatMul."""
        self._keep(node, node.inputs[1], 0, indices)

    def _keep(self, node: ir.Node, weight: ir.Value | None, axis: int, indices: np.ndarray) -> None:
        if weight is None or not weight.is_initializer():
            raise UsageError(
                f"node {node.name!r}: its weight is quantized or transposed at run time; remove structure before quantizing"
            )
        key = (weight, axis)
        if key in self._indices and not np.array_equal(self._indices[key], indices):
            raise UsageError(f"{weight.name} is shared, and its users are asked to keep different parts of it")
        self._indices[key] = indices
        self._readers.setdefault(key, set()).add(node)

    def check(self) -> None:
        """Raise UsageError where a weight has a reader that is not cut with it."""
        for (weight, _), readers in self._readers.items():
            others = [n for n in consumers(weight) if n not in readers]
            if others:
                raise UsageError(
                    f"{weight.name} is shared with node {others[0].name!r}: ask for the same removal everywhere it is used"
                )

    def apply(self) -> None:
        """Check, then cut every weight and note the new sizes."""
        self.check()
        for (weight, axis), indices in self._indices.items():
            array = constant(weight)
            assert array is not None
            set_array(weight, np.ascontiguousarray(np.take(array, indices, axis=axis)))
        for value, size in self._results.items():
            resize(value, size)


def set_array(weight: ir.Value, array: np.ndarray) -> None:
    """Replace the content and shape of an initializer."""
    weight.const_value = ir.Tensor(array, name=weight.name)
    weight.shape = ir.Shape(array.shape)


def resize(value: ir.Value, size: int) -> None:
    """Note a new length of the last axis."""
    if value.shape is not None:
        value.shape = ir.Shape([*list(value.shape)[:-1], size])
