"""List the passes of a recipe in one table, and the orders of them that are refused in another.

A pass is one module, with its spec and the function that makes it, and one row of `PASSES`. The specs of Headway's own passes are in
`pass_specs`, since targets read them too.
"""

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from functools import cache
from typing import Annotated, Any, Literal, Union

from pydantic import Field, GetJsonSchemaHandler, SerializeAsAny, TypeAdapter, WrapValidator
from pydantic_core import CoreSchema

from .pass_specs import (
    FitSpec,
    HalfSpec,
    PassBase,
    QuantizeSpec,
    RecoverSpec,
    RemoveBlocksSpec,
    RemoveHeadsSpec,
    RemoveNeuronsSpec,
    RemovePartsSpec,
    RepairSpec,
    Role,
    ShareSpec,
    SplitSpec,
    TrimVocabularySpec,
)


@dataclass(frozen=True)
class PassEntry:
    """One pass: what a recipe says about it, and "module:function", imported when the pass is made.

    The function takes the job and the spec, see `compress.steps`. `undo_unless_faster`: the model is put back where it became
    no faster.
    """

    spec: type[PassBase]
    function: str
    undo_unless_faster: bool = False


_COMPRESS = "headway.exporter.compress"

PASSES: dict[str, PassEntry] = {
    "fit": PassEntry(FitSpec, f"{_COMPRESS}.fit_steps:fit_to_budget"),
    "remove_heads": PassEntry(RemoveHeadsSpec, f"{_COMPRESS}.structure_steps:remove_heads"),
    "remove_neurons": PassEntry(RemoveNeuronsSpec, f"{_COMPRESS}.structure_steps:remove_neurons"),
    "remove_blocks": PassEntry(RemoveBlocksSpec, f"{_COMPRESS}.structure_steps:remove_blocks"),
    "remove_parts": PassEntry(RemovePartsSpec, f"{_COMPRESS}.structure_steps:remove_parts"),
    "split": PassEntry(SplitSpec, f"{_COMPRESS}.structure_steps:split_weights", undo_unless_faster=True),
    "trim_vocabulary": PassEntry(TrimVocabularySpec, f"{_COMPRESS}.vocabulary_steps:trim_vocabulary"),
    "share": PassEntry(ShareSpec, f"{_COMPRESS}.structure_steps:share_weights"),
    "repair": PassEntry(RepairSpec, f"{_COMPRESS}.weight_steps:repair_weights"),
    "recover": PassEntry(RecoverSpec, f"{_COMPRESS}.weight_steps:recover_quality"),
    "quantize": PassEntry(QuantizeSpec, f"{_COMPRESS}.weight_steps:quantize_weights"),
    "float16": PassEntry(HalfSpec, f"{_COMPRESS}.structure_steps:store_half"),
}
"""All passes by kind, in the order in which the reference lists them."""

Which = Callable[[PassBase], bool]


def _is(*roles: Role) -> Which:
    return lambda spec: spec.role in roles


def _is_not(*roles: Role) -> Which:
    return lambda spec: spec.role not in roles


@dataclass(frozen=True)
class OrderRule:
    """Say where a pass may stand: "not behind" any of `others`, or "only behind" or "only before" one of them.

    `reason` is the message of a refusal: a format of `spec` and `other`, the first of those it stands behind.
    """

    passes: Which
    place: Literal["not behind", "only behind", "only before"]
    others: Which
    reason: str


ORDER: tuple[OrderRule, ...] = (
    OrderRule(
        _is_not("quantize", "store"),
        "not behind",
        _is("recover"),
        "recover comes last: {spec.kind} behind it would undo what it learned; only quantization may follow",
    ),
    OrderRule(
        lambda spec: spec.names_blocks,
        "not behind",
        lambda spec: bool(spec.bare_blocks),
        "{spec.kind} behind {other.kind}, which leaves block {other.bare_blocks[0]} no attention: a block without one is counted to "
        "the block before, so that numbers would mean others; put {spec.kind} in front",
    ),
    OrderRule(
        _is("quantize"),
        "not behind",
        _is("store"),
        "{spec.kind} behind {other.kind}: its weights are float16 by then; put {spec.kind} in front",
    ),
    OrderRule(
        _is("repair"),
        "only behind",
        _is("remove", "share"),
        "{spec.kind} has nothing to repair: put it behind the passes that remove",
    ),
    OrderRule(
        lambda spec: spec.approximates,
        "only before",
        _is("repair"),
        "sharing near-equal tensors changes the answers: put a repair behind it",
    ),
    OrderRule(
        _is_not("quantize", "store"),
        "not behind",
        _is("quantize", "store"),
        "{spec.kind} behind {other.kind}: quantized weights are neither cut, split nor solved for",
    ),
    OrderRule(
        _is("remove"),
        "not behind",
        _is("repair"),
        "{spec.kind} behind a {other.kind} would undo it: {other.kind} comes after all that remove",
    ),
)
"""All rules of order; the first that is broken is the one that the message names."""


def check_order(passes: Sequence[PassBase]) -> None:
    """Raise ValueError where passes cannot follow each other as they do."""
    kinds = [spec.kind for spec in passes]
    for spec in passes:
        if spec.once and kinds.count(spec.kind) > 1:
            raise ValueError(f"pass {spec.kind} is given twice")
    for position, spec in enumerate(passes):
        for rule in ORDER:
            if not rule.passes(spec):
                continue
            ahead = next((other for other in passes[:position] if rule.others(other)), None)
            behind = next((other for other in passes[position + 1 :] if rule.others(other)), None)
            broken = {"not behind": ahead is not None, "only behind": ahead is None, "only before": behind is None}
            if broken[rule.place]:
                raise ValueError(rule.reason.format(spec=spec, other=ahead))


@cache
def _adapter(specs: tuple[type[PassBase], ...]) -> "TypeAdapter[PassBase]":
    union: Any = Annotated[Union[specs], Field(discriminator="kind")]  # noqa: UP007 (made of a table)
    return TypeAdapter(union)


def _by_table() -> "TypeAdapter[PassBase]":
    """Return the adapter that reads any pass of the table."""
    return _adapter(tuple(entry.spec for entry in PASSES.values()))


class _TableSchema:
    """Describe a pass as any of the table's."""

    @staticmethod
    def __get_pydantic_json_schema__(_schema: CoreSchema, handler: GetJsonSchemaHandler) -> dict[str, Any]:
        return handler(_by_table().core_schema)


PassSpec = Annotated[
    SerializeAsAny[PassBase], WrapValidator(lambda value, _: _by_table().validate_python(value)), _TableSchema()
]
"""Any pass of `PASSES`, read by the row of its kind."""
