"""Removes whole blocks, or the attention or feed-forward of a block alone."""

from collections.abc import Sequence
from dataclasses import dataclass

import onnx_ir as ir

from ...errors import UsageError
from ..graph.anatomy import Anatomy, Projection
from ..graph.edit import bias_add, consumers, is_vector, other_input, replace
from .base import StructuralPass, check_indices


@dataclass
class RemoveBlocks(StructuralPass):
    """Removes blocks with their norms: what went into them goes on as it is. The ones left are numbered anew.

    Source: Fan et al. 2020, LayerDrop, section 3.2 (every other block); any choice can be made.
    """

    blocks: Sequence[int]

    def edit(self, model: ir.Model, anatomy: Anatomy) -> dict[str, str]:
        gone = check_indices(self.blocks, len(anatomy.blocks), "block", "remove blocks")
        if len(gone) == len(anatomy.blocks):
            raise UsageError("all blocks would go; keep at least one")
        for index in gone:
            block = anatomy.blocks[index]
            if block.input is None or block.output is None:
                raise UsageError(f"block {index} reads or gives more than one value; it cannot be taken out alone")
        stand_in: dict[ir.Value, ir.Value] = {}
        for index in gone:
            block = anatomy.blocks[index]
            assert block.input is not None and block.output is not None
            entry = stand_in.get(block.input, block.input)
            stand_in[block.output] = entry
            _bypass(model.graph, block.output, entry)
        return {f"block {i}": "removed" for i in gone}


def _bypass(graph: ir.Graph, result: ir.Value, entry: ir.Value) -> None:
    """`entry` takes the place of `result`; a graph output keeps its name."""
    if result in graph.outputs:
        name = result.name
        result.name = f"{name}.removed"
        entry.name = name
    replace(result, entry)


@dataclass
class RemoveParts(StructuralPass):
    """Removes attentions and feed-forwards of blocks and leaves the residual, with the constant that their bias added.

    The norm behind a part stays. `feed_forwards` are (block, number in the block).
    """

    attentions: Sequence[int] = ()
    feed_forwards: Sequence[tuple[int, int]] = ()

    def edit(self, model: ir.Model, anatomy: Anatomy) -> dict[str, str]:
        # Heads and neurons removed to the last are the same thing; those modules import this one.
        changes = {}
        check_indices(self.attentions, len(anatomy.blocks), "block", "remove attentions")
        check_indices([b for b, _ in self.feed_forwards], len(anatomy.blocks), "block", "remove feed-forwards")
        for index in self.attentions:
            part = anatomy.blocks[index].attention
            if part is None:
                raise UsageError(f"block {index} has no attention to remove")
            drop_part(model.graph, part.o)
            changes[f"block {index}"] = "attention removed"
        for index, number in self.feed_forwards:
            forwards = anatomy.blocks[index].feed_forwards
            if not 0 <= number < len(forwards):
                raise UsageError(f"block {index} has {len(forwards)} feed-forwards, there is no number {number}")
            drop_part(model.graph, forwards[number].down)
            changes[f"block {index} feed-forward {number}"] = "removed"
        return changes


def drop_part(graph: ir.Graph, projection: Projection) -> None:
    """Takes away what ends in `projection`: only its bias is still added to the residual, or nothing where it has none."""
    result = projection.output
    readers = consumers(result)
    strange = next((n for n in readers if n.op_type != "Add"), None)
    if strange is not None or result in graph.outputs or not readers:
        name = strange.name if strange is not None else result.name
        raise UsageError(
            f"{projection.weight}: its result is read by {name!r}, which is no residual; it cannot be removed"
        )
    bias = bias_add(projection.node)
    for add in readers:
        residual = other_input(add, result)
        assert residual is not None
        if bias is None:
            replace(add.outputs[0], residual)
        else:
            constant = next(v for v in bias.inputs if is_vector(v))
            add.replace_input_with(0, residual)
            add.replace_input_with(1, constant)
            add.meta["part_removed"] = True  # its constant is what a repair can still set
