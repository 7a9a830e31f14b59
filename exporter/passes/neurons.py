"""Removes feed-forward neurons: columns of the first matrix (both halves where gated), rows of the second."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass

import numpy as np
import onnx_ir as ir

from ...errors import UsageError
from ..graph.anatomy import Anatomy, FeedForward
from ..graph.edit import attribute, consumers
from .base import StructuralPass, check_indices, the_block
from .blocks import drop_part
from .cuts import Cuts, resize


@dataclass
class RemoveNeurons(StructuralPass):
    """Keeps, in each feed-forward named by (block, its number in the block), the neurons given (0-based).

    Widths may differ. Where none is kept the feed-forward goes, and the constant of its bias stays in the residual.
    """

    keep: Mapping[tuple[int, int], Sequence[int]]

    def edit(self, model: ir.Model, anatomy: Anatomy) -> dict[str, str]:
        cuts, changes, dropped, changed = Cuts(), {}, [], []
        for (index, number), wanted in self.keep.items():
            forwards = the_block(anatomy, index).feed_forwards
            if not 0 <= number < len(forwards):
                raise UsageError(f"block {index} has {len(forwards)} feed-forwards, there is no number {number}")
            forward = forwards[number]
            where = f"block {index}" + (f" feed-forward {number}" if len(forwards) > 1 else "")
            kept = check_indices(wanted, forward.width, "neuron", where)
            if len(kept) == forward.width:
                continue
            changes[where] = f"neurons {forward.width} → {len(kept)}"
            if not kept:
                dropped.append(forward)
                continue
            columns = np.asarray(kept, np.int64)
            cuts.columns(
                forward.up.node, np.concatenate([columns, columns + forward.width]) if forward.gated else columns
            )
            cuts.rows(forward.down, columns)
            _check_between(forward)
            changed.append((forward, len(kept)))
        cuts.apply()
        for forward, width in changed:
            for node in _between(forward):
                for out in node.outputs:
                    resize(out, width)
        for forward in dropped:
            drop_part(model.graph, forward.down)
        return changes


def _between(forward: FeedForward) -> list[ir.Node]:
    """The element-wise nodes from the first matrix to the second."""
    found: dict[ir.Node, None] = {}
    queue = [forward.up.output]
    while queue:
        for node in consumers(queue.pop()):
            if node not in (forward.down.first, forward.down.node) and node not in found:
                found[node] = None
                queue.extend(node.outputs)
    return list(found)


def _check_between(forward: FeedForward) -> None:
    """What lies between must not name the width: an even Split does not, a list of sizes or slices does."""
    for node in _between(forward):
        named = node.op_type == "Slice" or (node.op_type == "Split" and "num_outputs" not in node.attributes)
        trained = any(
            v is not None and v.is_initializer() and (v.shape or [1])[-1] == forward.width for v in node.inputs
        )
        if named or trained or (node.op_type == "Split" and attribute(node, "num_outputs") != 2):
            raise UsageError(
                f"node {node.name!r} ({node.op_type}) fixes the width of its feed-forward; it cannot be cut"
            )
