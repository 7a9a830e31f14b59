"""Name the batch and sequence axes of inner values by running the graph, where shape inference made names up."""

import numpy as np
import onnx_ir as ir

from .probe import Prober

BATCHES = (2, 3)
"""Sizes of the batch in two runs: no other axis changes in the same way."""

_LONGEST = 7
_NAMES = ("batch", "choices", "sequence")


def name_inner_axes(graph: ir.Graph, prober: Prober, longest: int) -> int:
    """Name each axis that changes as the batch or the sequence does, from two runs; return how many were named.

    Passes and targets look for these names. Axes of other sizes keep the names that they have. `longest` is in tokens.
    """
    values = [v for node in graph for v in node.outputs if v.shape is not None and any(map(_unknown, v.shape))]
    if not values:
        return 0
    lengths = lengths_within(longest)
    names = {BATCHES: "batch", lengths: "sequence"}
    shapes = zip(BATCHES, lengths, strict=True)
    first, second = prober.runs(values, [prober.feeds(np.ones(shape, np.int64)) for shape in shapes])
    count = 0
    for value, a, b in zip(values, first, second, strict=True):
        if value.shape is None or not len(value.shape) == np.ndim(a) == np.ndim(b):
            continue
        found = [names.get(pair) for pair in zip(np.shape(a), np.shape(b), strict=True)]
        axes = [name if name and _unknown(axis) else axis for name, axis in zip(found, value.shape, strict=True)]
        count += sum(bool(name) and _unknown(axis) for name, axis in zip(found, value.shape, strict=True))
        value.shape = ir.Shape(axes)
    return count


def lengths_within(longest: int) -> tuple[int, int]:
    """Return the lengths of two runs, in tokens, of which the model takes at most `longest`."""
    last = max(2, min(_LONGEST, longest))
    return max(1, last - 2), last


def _unknown(axis: int | ir.SymbolicDim) -> bool:
    return not isinstance(axis, int) and axis.value not in _NAMES
