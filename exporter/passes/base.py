"""Define what every structural pass is: an `onnx_ir` pass on a canonical model that reports what it saved."""

from abc import abstractmethod
from collections.abc import Iterable
from dataclasses import asdict, dataclass, field
from typing import Any

import onnx_ir as ir
from onnx_ir.passes import common

from ...errors import SourceError, UsageError
from ..graph.anatomy import Anatomy, AttentionPart, Block, read_anatomy
from ..graph.edit import remove_unused
from ..quiet import without_logs

REPORT_LENGTH = 128
"""FLOPs are reported per token of sequences this long."""


@dataclass(frozen=True)
class PassReport:
    """What a pass changed: `changes` maps a block or tensor to a few words; the other fields are pairs (before, after)."""

    name: str
    changes: dict[str, str]
    parameters: tuple[int, int]
    nbytes: tuple[int, int]
    flops_per_token: tuple[float, float]

    def to_json(self) -> dict[str, Any]:
        """Return the report as JSON."""
        return asdict(self)


@dataclass
class StructuralPass(ir.passes.InPlacePass):
    """Call a pass on a model to edit the model; `report` then says what changed.

    Raises UsageError, the model untouched, where the pass does not fit the model; SourceError where the anatomy of the
    result cannot be read.
    """

    report: PassReport | None = field(init=False, default=None)

    @abstractmethod
    def edit(self, model: ir.Model, anatomy: Anatomy) -> dict[str, str]:
        """Edit the model; return the changes in words. Check everything before changing anything."""

    def call(self, model: ir.Model) -> ir.passes.PassResult:
        """Edit the model, infer shapes, and read the anatomy again."""
        before = read_anatomy(model)
        changes = self.edit(model, before)
        if changes:
            remove_unused(model)
            with without_logs():
                common.ShapeInferencePass()(model)
        after = read_anatomy(model) if changes else before
        if len(after.not_read) > len(before.not_read):
            raise SourceError(f"{type(self).__name__}: {after.not_read[-1]}")
        self.report = PassReport(
            type(self).__name__,
            changes,
            (before.parameters, after.parameters),
            (before.nbytes, after.nbytes),
            (before.flops_per_token(REPORT_LENGTH), after.flops_per_token(REPORT_LENGTH)),
        )
        return ir.passes.PassResult(model, bool(changes))


def the_block(anatomy: Anatomy, index: int) -> Block:
    """Return block `index`; UsageError where there is none."""
    if not 0 <= index < len(anatomy.blocks):
        raise UsageError(f"there is no block {index}: the model has blocks 0 to {len(anatomy.blocks) - 1}")
    return anatomy.blocks[index]


def attention_of(block: Block, what_for: str) -> AttentionPart:
    """Return the attention of a block; UsageError where there is none, or where it was not read, with the reason."""
    if block.attention is None:
        why = f": {block.not_read[0]}" if block.not_read else ""
        raise UsageError(f"block {block.index} has no attention {what_for}{why}")
    return block.attention


def check_indices(wanted: Iterable[int], size: int, what: str, where: str) -> list[int]:
    """Return `wanted` sorted; UsageError for an index out of range or repeated."""
    indices = sorted(wanted)
    bad = next((i for i in indices if not 0 <= i < size), None)
    if bad is not None:
        raise UsageError(f"{where}: {what} {bad} is out of range, there are {what}s 0 to {size - 1}")
    if len(set(indices)) != len(indices):
        raise UsageError(f"{where}: a {what} is given twice")
    return indices
