"""Remove feed-forward neurons: columns of the first weight (of both halves, or both weights, where gated), rows of the last."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass

import numpy as np
import onnx_ir as ir

from ...errors import UsageError
from ..graph.anatomy import Anatomy, FeedForward
from ..graph.edit import attribute_int, consumers
from .base import StructuralPass, check_indices, the_block
from .blocks import drop_part
from .cuts import Cuts, resize


@dataclass
class RemoveNeurons(StructuralPass):
    """Keep in each feed-forward, named by (block, its number in the block), the neurons given (0-based).

    Widths may differ. A feed-forward that keeps none is removed; the constant of its bias is still added to the residual.
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
            kept_neurons = check_indices(wanted, forward.width, "neuron", where)
            if len(kept_neurons) == forward.width:
                continue
            changes[where] = f"neurons {forward.width} → {len(kept_neurons)}"
            if not kept_neurons:
                dropped.append(forward)
                continue
            columns = np.asarray(kept_neurons, np.int64)
            if forward.gated and forward.factor is None:
                cuts.columns(forward.up.node, np.concatenate([columns, columns + forward.width]))
            else:
                for projection in forward.before:
                    cuts.columns(projection.node, columns)
            cuts.rows(forward.down, columns)
            _check_between(forward)
            changed.append((forward, len(kept_neurons)))
        cuts.apply()
        for forward, width in changed:
            for node in nodes_between(forward):
                for out in node.outputs:
                    resize(out, width)
        for forward in dropped:
            drop_part(model.graph, forward.down)
        return changes


def nodes_between(forward: FeedForward) -> list[ir.Node]:
    """Return the element-wise nodes from the first matmuls to the last."""
    between: dict[ir.Node, None] = {}
    queue = [projection.output for projection in forward.before]
    while queue:
        for node in consumers(queue.pop()):
            if node not in (forward.down.first, forward.down.node) and node not in between:
                between[node] = None
                queue.extend(node.outputs)
    return list(between)


def _check_between(forward: FeedForward) -> None:
    """Raise UsageError where a node between names the width: an even Split does not, a list of sizes or slices does."""
    for node in nodes_between(forward):
        fixes_width = node.op_type == "Slice" or (node.op_type == "Split" and "num_outputs" not in node.attributes)
        trained = any(
            v is not None and v.is_initializer() and (v.shape or [1])[-1] == forward.width for v in node.inputs
        )
        if fixes_width or trained or (node.op_type == "Split" and attribute_int(node, "num_outputs") != 2):
            raise UsageError(
                f"node {node.name!r} ({node.op_type}) fixes the width of its feed-forward; it cannot be cut"
            )
