"""Find out which blocks a model can lose as a whole. Imports torch."""

from collections.abc import Callable, Iterator, Sequence

import onnx_ir as ir

from ...calibration.batches import Batch
from ...errors import UsageError
from ..graph.anatomy import read_anatomy
from ..passes.blocks import RemoveBlocks

_FEW_BATCHES = 4
"""So many batches of calibration data tell which block matters least."""


def drop_order(
    model: ir.Model, distance: Callable[[ir.Model, Sequence[Batch]], float], batches: Sequence[Batch]
) -> Iterator[int]:
    """Yield the numbers of blocks in the order in which they can go, all but one.

    Each is the one without which the answers stay nearest, beside those that went before; the rest is not refitted. Nothing comes
    where a block of the model cannot be taken out alone. Source: Gromov et al. (arXiv 2403.17887) remove blocks by what they change;
    here what the outputs lose decides, and one block at a time.
    """
    few = batches[:: max(1, len(batches) // _FEW_BATCHES)]
    left = list(range(len(read_anatomy(model).blocks)))
    gone: list[int] = []
    while len(left) > 1:
        tried = []
        for block in left:
            cut = model.clone()
            try:
                RemoveBlocks(sorted([*gone, block]))(cut)
            except UsageError:
                return
            tried.append((distance(cut, few), block))
        block = min(tried)[1]
        left.remove(block)
        gone.append(block)
        yield block
