"""Specify the passes of a recipe: one class for each, with its order and its limits."""

from typing import Annotated, Literal

from pydantic import BaseModel, ConfigDict, Field, model_validator


class StrictModel(BaseModel):
    model_config = ConfigDict(extra="forbid", frozen=True, allow_inf_nan=False)


class FitSpec(StrictModel):
    """Heads, neurons and ranks go until the budget is met: exactly one of the three is given.

    Rounds repair between one and the next. By default one round and one for each factor of 1.5 are tried, and the better kept.
    """

    kind: Literal["fit"] = "fit"
    speedup: float | None = Field(default=None, gt=1)
    latency_ms: float | None = Field(default=None, gt=0)
    flops: float | None = Field(default=None, gt=0, lt=1)
    rounds: int | None = Field(default=None, ge=1)

    @model_validator(mode="after")
    def _one_budget(self) -> "FitSpec":
        if sum(v is not None for v in (self.speedup, self.latency_ms, self.flops)) != 1:
            raise ValueError("give exactly one of speedup, latency_ms and flops")
        return self


class RemoveHeadsSpec(StrictModel):
    """Heads that stay, by block: their numbers, or how many of the most important."""

    kind: Literal["remove_heads"] = "remove_heads"
    keep: dict[int, list[int] | int]


class RemoveNeuronsSpec(StrictModel):
    """Neurons that stay, by block (its first feed-forward): their numbers, or how many of the most important.

    A number of neurons is grown to the multiple that pays on the target.
    """

    kind: Literal["remove_neurons"] = "remove_neurons"
    keep: dict[int, list[int] | int]


class RemoveBlocksSpec(StrictModel):
    """Blocks that go with their norms: by number, every n-th (the second, fourth … for 2), or the least important."""

    kind: Literal["remove_blocks"] = "remove_blocks"
    blocks: list[int] = Field(default_factory=list)
    every: int | None = Field(default=None, ge=2)
    least_important: int | None = Field(default=None, ge=1)

    @model_validator(mode="after")
    def _one_choice(self) -> "RemoveBlocksSpec":
        if bool(self.blocks) + (self.every is not None) + (self.least_important is not None) != 1:
            raise ValueError("give one of blocks, every and least_important")
        return self


class RemovePartsSpec(StrictModel):
    """Attentions and (first) feed-forwards that go, by block; the residual and its norm stay."""

    kind: Literal["remove_parts"] = "remove_parts"
    attentions: list[int] = Field(default_factory=list)
    feed_forwards: list[int] = Field(default_factory=list)


class SplitSpec(StrictModel):
    """Matrices of the blocks become pairs of lower rank until `keep` of their parameters are left; see passes.lowrank."""

    kind: Literal["split"] = "split"
    keep: float = Field(gt=0, lt=1)
    method: Literal["activation", "fisher", "plain"] = "activation"
    embedding_rank: int | None = Field(default=None, ge=1)


class TrimVocabularySpec(StrictModel):
    """Tokens that the text does not use go, but for special ones and single characters.

    With `tokens`, at most so many stay: those that the text uses most. Words of the others become several tokens.
    """

    kind: Literal["trim_vocabulary"] = "trim_vocabulary"
    tokens: int | None = Field(default=None, ge=1)


class ShareSpec(StrictModel):
    """Equal tensors are stored once; near-equal ones too where `tolerance` (relative Frobenius distance) is above 0."""

    kind: Literal["share"] = "share"
    tolerance: float = Field(default=0.0, ge=0)


class RepairSpec(StrictModel):
    """Least squares on what is left: whole projections, or one scale a gate."""

    kind: Literal["repair"] = "repair"
    method: Literal["projection", "scale"] = "projection"


class RecoverSpec(StrictModel):
    """Distillation from the source for so many minutes."""

    kind: Literal["recover"] = "recover"
    minutes: float = Field(gt=0)


class QuantizeSpec(StrictModel):
    """Matrices of the blocks and tables in whole numbers, and what goes into the products where the target computes so.

    `activations`: "per-token" finds each token's range as it comes (needs Headway's kernels), "static" rounds to ranges
    calibrated on the text, "none" rounds only weights; "auto" is per-token where the bundle has the kernels, else static.
    `block` divides the inputs of int4 matrices. `keep` names modules or weights that stay float. `search`: groups of matrices go
    back to float until at most `max_drop` points are lost.
    """

    kind: Literal["quantize"] = "quantize"
    weights: Literal["int8", "int4"] = "int8"
    activations: Literal["auto", "per-token", "static", "none"] = "auto"
    block: int | None = Field(default=None, ge=16)
    rounding: Literal["gptq", "nearest"] = "gptq"
    ranges: Literal["min-max", "percentile", "entropy", "mse"] = "min-max"
    migrate: bool = True
    correct_bias: bool = True
    tables: bool = True
    keep: list[str] = Field(default_factory=list)
    search: bool = False

    @model_validator(mode="after")
    def _fits(self) -> "QuantizeSpec":
        if self.weights == "int4" and self.activations not in ("auto", "none"):
            raise ValueError("int4 is weight-only: no target here multiplies int4 by rounded activations")
        return self


class HalfSpec(StrictModel):
    """Matrices and tables stored as float16: half the bytes; arithmetic stays float32 on CPUs."""

    kind: Literal["float16"] = "float16"


PassSpec = Annotated[
    FitSpec
    | RemoveHeadsSpec
    | RemoveNeuronsSpec
    | RemoveBlocksSpec
    | RemovePartsSpec
    | SplitSpec
    | TrimVocabularySpec
    | ShareSpec
    | RepairSpec
    | RecoverSpec
    | QuantizeSpec
    | HalfSpec,
    Field(discriminator="kind"),
]


def chooses(one: PassSpec) -> bool:
    """Whether a pass finds its blocks itself."""
    return isinstance(one, RemoveBlocksSpec) and one.least_important is not None


def without_attention(one: PassSpec) -> list[int]:
    """Blocks that a pass leaves without attention."""
    if isinstance(one, RemoveHeadsSpec):
        return [b for b, kept in one.keep.items() if not kept]
    return list(one.attentions) if isinstance(one, RemovePartsSpec) else []


QUANTIZING = ("quantize", "float16")
REMOVING = ("fit", "remove_heads", "remove_neurons", "remove_blocks", "remove_parts", "split")
