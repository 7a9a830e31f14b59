"""Store equal tensors as one initializer."""

import hashlib
from collections import Counter
from dataclasses import dataclass

import numpy as np
import onnx_ir as ir

from ..graph.anatomy import Anatomy
from ..graph.edit import constant
from .base import StructuralPass


@dataclass
class ShareWeights(StructuralPass):
    """Make tensors of one shape and content one initializer, under the name of the first.

    With a `tolerance` above 0, weights of two axes are shared too if their difference is at most that part of the first
    one's Frobenius norm. That changes what the model computes, so repair it afterwards. Other tensors are shared only
    where equal.
    """

    tolerance: float = 0.0

    def edit(self, model: ir.Model, anatomy: Anatomy) -> dict[str, str]:
        return {name: f"is {twin}" for name, twin in share(model.graph, tolerance=self.tolerance).items()}


def share(graph: ir.Graph, *, tolerance: float = 0.0, axes: int = 0, least: int = 2) -> dict[str, str]:
    """Share initializers of at least `axes` axes and `least` elements; return for each removed name the name that replaces it."""
    replaced: dict[str, str] = {}
    first_of_kind: dict[tuple, list[ir.Value]] = {}
    beginnings = {value: _beginning(value, axes, least) for value in graph.initializers.values()}
    alike = Counter(beginnings.values())
    for value, beginning in beginnings.items():
        array = constant(value) if beginning is not None else None
        if array is None:
            continue
        near = tolerance > 0 and array.ndim == 2 and array.dtype.kind == "f"
        if not near and alike[beginning] == 1:
            continue
        key = (array.dtype, array.shape, "near" if near else hashlib.sha256(array.tobytes()).digest())
        twin = next((v for v in first_of_kind.get(key, []) if not near or _near(constant(v), array, tolerance)), None)
        if twin is None:
            first_of_kind.setdefault(key, []).append(value)
            continue
        replaced[str(value.name)] = str(twin.name)
        ir.convenience.replace_all_uses_with(value, twin)
        del graph.initializers[str(value.name)]
    return replaced


def _beginning(value: ir.Value, axes: int, least: int) -> tuple | None:
    """Return type, shape and first numbers, in which few tensors agree; None for what is not shared."""
    array = constant(value)
    if array is None or array.ndim < axes or array.size < least or value.is_graph_output():
        return None
    return array.dtype, array.shape, array[:1].tobytes()


def _near(first: np.ndarray | None, second: np.ndarray, tolerance: float) -> bool:
    assert first is not None
    return bool(np.linalg.norm(first - second) <= tolerance * np.linalg.norm(first))
