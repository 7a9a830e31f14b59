"""Tensors that are equal become one initializer."""

import hashlib
from dataclasses import dataclass

import numpy as np
import onnx_ir as ir

from ..graph.anatomy import Anatomy
from ..graph.edit import constant
from .base import StructuralPass


@dataclass
class ShareWeights(StructuralPass):
    """Makes tensors of one shape and content one initializer: the first keeps its name.

    With `tolerance` above 0, matrices whose difference is at most that part of the first one's norm (Frobenius) are shared as
    well; that changes what the model computes, so repair it afterwards. Vectors are then shared only where equal.
    """

    tolerance: float = 0.0

    def edit(self, model: ir.Model, anatomy: Anatomy) -> dict[str, str]:
        return {name: f"is {twin}" for name, twin in share(model.graph, tolerance=self.tolerance).items()}


def share(graph: ir.Graph, *, tolerance: float = 0.0, axes: int = 0, least: int = 2) -> dict[str, str]:
    """Shares initializers of at least so many `axes` and elements; returns the name of the one that stays by that of each that went."""
    gone: dict[str, str] = {}
    kept: dict[tuple, list[ir.Value]] = {}
    for value in list(graph.initializers.values()):
        array = constant(value)
        if array is None or array.ndim < axes or array.size < least or value.is_graph_output():
            continue
        near = tolerance > 0 and array.ndim == 2 and array.dtype.kind == "f"
        key = (array.dtype, array.shape, "near" if near else hashlib.sha256(array.tobytes()).digest())
        twin = next((v for v in kept.get(key, []) if not near or _near(constant(v), array, tolerance)), None)
        if twin is None:
            kept.setdefault(key, []).append(value)
            continue
        gone[str(value.name)] = str(twin.name)
        ir.convenience.replace_all_uses_with(value, twin)
        del graph.initializers[str(value.name)]
    return gone


def _near(first: np.ndarray | None, second: np.ndarray, tolerance: float) -> bool:
    assert first is not None
    return bool(np.linalg.norm(first - second) <= tolerance * np.linalg.norm(first))
