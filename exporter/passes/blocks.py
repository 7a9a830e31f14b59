"""Remove complete blocks, or the attention or feed-forward of a block alone."""

from collections.abc import Sequence
from dataclasses import dataclass

import onnx_ir as ir

from ...errors import UsageError
from ..graph.anatomy import Anatomy, Projection
from ..graph.edit import bias_add, consumers, is_vector, other_input, replace
from .base import StructuralPass, attention_of, check_indices


@dataclass
class RemoveBlocks(StructuralPass):
    """Remove blocks with their norms: the input of a removed block becomes its output. The blocks left are renumbered.

    Source: Fan et al. 2020, LayerDrop, section 3.2 (every other block); here any blocks can be chosen.
    """

    blocks: Sequence[int]

    def edit(self, model: ir.Model, anatomy: Anatomy) -> dict[str, str]:
        removed = check_indices(self.blocks, len(anatomy.blocks), "block", "remove blocks")
        if len(removed) == len(anatomy.blocks):
            raise UsageError("all blocks would be removed; keep at least one")
        for index in removed:
            block = anatomy.blocks[index]
            if block.input is None or block.output is None:
                raise UsageError(f"block {index} reads or gives more than one value; it cannot be taken out alone")
        replacement: dict[ir.Value, ir.Value] = {}
        for index in removed:
            block = anatomy.blocks[index]
            assert block.input is not None and block.output is not None
            entry = replacement.get(block.input, block.input)
            replacement[block.output] = entry
            _bypass(model.graph, block.output, entry)
        return {f"block {i}": "removed" for i in removed}


def _bypass(graph: ir.Graph, result: ir.Value, entry: ir.Value) -> None:
    """Put `entry` in the place of `result`; a graph output keeps its name."""
    if result in graph.outputs:
        name = result.name
        result.name = f"{name}.removed"
        entry.name = name
    replace(result, entry)


@dataclass
class RemoveParts(StructuralPass):
    """Remove attentions and feed-forwards of blocks; the residual stays, and the constant that their bias added.

    The norm after a part stays. `feed_forwards` are (block, number in the block).
    """

    attentions: Sequence[int] = ()
    feed_forwards: Sequence[tuple[int, int]] = ()

    def edit(self, model: ir.Model, anatomy: Anatomy) -> dict[str, str]:
        # The passes for heads and neurons do the same where none is kept: they import `drop_part`.
        changes = {}
        check_indices(self.attentions, len(anatomy.blocks), "block", "remove attentions")
        check_indices([b for b, _ in self.feed_forwards], len(anatomy.blocks), "block", "remove feed-forwards")
        for index in self.attentions:
            part = attention_of(anatomy.blocks[index], "to remove")
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
    """Remove the part that ends in `projection`: only its bias is still added to the residual, if it has one.

    UsageError where something other than a residual reads the result.
    """
    result = projection.output
    readers = consumers(result)
    other_reader = next((n for n in readers if n.op_type != "Add"), None)
    if other_reader is not None or result in graph.outputs or not readers:
        name = other_reader.name if other_reader is not None else result.name
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
            add.meta["part_removed"] = True  # a repair can still set this constant
