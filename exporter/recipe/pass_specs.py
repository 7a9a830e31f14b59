"""Define what a recipe says about each of its passes; `passes` has the table of them."""

from typing import ClassVar, Literal

from pydantic import BaseModel, ConfigDict, Field, model_validator

from .unit_ranges import UnitRanges

Role = Literal["vocabulary", "remove", "share", "repair", "recover", "quantize", "store"]
"""What a pass is for. The orders that are refused are those of roles; `store` changes how weights are stored, and no more."""

_KIND = "Name of the pass."
_KEEP = "Units that stay, by the number of their block: their numbers, or how many of the most important."


class StrictModel(BaseModel):
    """A part of a recipe. Unknown keys are refused, and so are infinite numbers."""

    model_config = ConfigDict(extra="forbid", frozen=True, allow_inf_nan=False)


class PassBase(StrictModel):
    """What all passes have: a `kind`, a `role`, and whether a recipe may hold the pass only `once`."""

    role: ClassVar[Role]
    once: ClassVar[bool] = False
    decides: ClassVar[tuple[str, ...]] = ()
    """Keys that hold what an earlier run decided; a user leaves them out."""

    kind: str = Field(description=_KIND)

    @property
    def saves(self) -> bool:
        """Whether the pass is there to save bytes or time."""
        return self.role not in ("repair", "recover")

    @property
    def needs_blocks(self) -> bool:
        """Whether the pass has nothing to do in a model without blocks."""
        return self.role == "remove"

    @property
    def needs_latency(self) -> bool:
        """Whether the pass measures the latency of the model."""
        return False

    @property
    def asked(self) -> dict[str, float]:
        """The budget that the pass has to meet, by its key; empty where it has none."""
        return {}

    @property
    def observes(self) -> bool:
        """Whether the pass observes activations on text."""
        return self.role == "quantize"

    @property
    def chooses(self) -> bool:
        """Whether the pass tries several ways and decides by their quality: texts are set aside for that."""
        return False

    @property
    def names_blocks(self) -> bool:
        """Whether the recipe names the pass's blocks by number."""
        return False

    @property
    def bare_blocks(self) -> list[int]:
        """The blocks that the pass leaves without attention."""
        return []

    @property
    def approximates(self) -> bool:
        """Whether sharing changes what the model computes."""
        return False


class RoundPlan(StrictModel):
    """What one round of `fit` leaves, as an earlier run decided it. Units are written as ranges: 0-311 313."""

    heads: dict[int, UnitRanges] = Field(default_factory=dict, description="Heads that stay, by block.")
    neurons: dict[str, UnitRanges] = Field(
        default_factory=dict, description="Neurons that stay, by block, as 3, or by block and feed-forward, as 3.1."
    )
    ranks: dict[str, int] = Field(default_factory=dict, description="Ranks that weights are split at, by name.")
    blocks: list[int] = Field(
        default_factory=list, description="Blocks that go as a whole; nothing else does in the same round."
    )


class FitSpec(PassBase):
    """Remove heads, neurons, ranks and blocks until a budget is met, no more than that.

    The budget is that of the artifact, after all passes: where the recipe quantizes as well, less is removed. Exactly one of `speedup`,
    `latency_ms` and `flops` is given. The recipe in a bundle holds the plan as well: run again, it cuts the same units, whatever the
    machine measures.
    """

    role: ClassVar[Role] = "remove"
    once: ClassVar[bool] = True
    decides: ClassVar[tuple[str, ...]] = ("plan",)

    kind: Literal["fit"] = Field(default="fit", description=_KIND)
    speedup: float | None = Field(
        default=None, gt=1, description="How many times as fast as its source the model has to be, measured."
    )
    latency_ms: float | None = Field(
        default=None, gt=0, description="Mean latency on the workload that the model has to reach, in milliseconds."
    )
    flops: float | None = Field(
        default=None, gt=0, lt=1, description="Part of the floating-point operations that may stay, between 0 and 1."
    )
    rounds: int | None = Field(
        default=None,
        ge=1,
        description="Number of rounds, with a repair between one and the next. By default several plans are tried, and the model whose "
        "answers stay nearest is kept: one round, one round for each factor of 1.5, and whole blocks first.",
    )
    plan: list[RoundPlan] | None = Field(
        default=None, description="What each round leaves, as an earlier run decided it; nothing is searched then."
    )

    @property
    def needs_latency(self) -> bool:
        return self.flops is None and self.plan is None

    @property
    def chooses(self) -> bool:
        return self.rounds is None  # with a plan too: the texts to learn from are to be the same

    @property
    def asked(self) -> dict[str, float]:
        budget = {"speedup": self.speedup, "latency_ms": self.latency_ms, "flops": self.flops}
        return {name: value for name, value in budget.items() if value is not None}

    @model_validator(mode="after")
    def _one_budget(self) -> "FitSpec":
        if sum(v is not None for v in (self.speedup, self.latency_ms, self.flops)) != 1:
            raise ValueError("give exactly one of speedup, latency_ms and flops")
        return self


class RemoveHeadsSpec(PassBase):
    """Remove attention heads. `keep` says which stay; blocks that it does not name keep all."""

    role: ClassVar[Role] = "remove"

    kind: Literal["remove_heads"] = Field(default="remove_heads", description=_KIND)
    keep: dict[int, list[int] | int] = Field(description=_KEEP.replace("Units", "Heads"))

    @property
    def names_blocks(self) -> bool:
        return True

    @property
    def bare_blocks(self) -> list[int]:
        return [block for block, heads in self.keep.items() if not heads]


class RemoveNeuronsSpec(PassBase):
    """Remove neurons of a block's first feed-forward. `keep` says which stay; blocks that it does not name keep all.

    A number of neurons is rounded up to the multiple that pays on the target.
    """

    role: ClassVar[Role] = "remove"

    kind: Literal["remove_neurons"] = Field(default="remove_neurons", description=_KIND)
    keep: dict[int, list[int] | int] = Field(description=_KEEP.replace("Units", "Neurons"))

    @property
    def names_blocks(self) -> bool:
        return True


class RemoveBlocksSpec(PassBase):
    """Remove whole blocks with their norms. Exactly one of `blocks`, `every` and `least_important` is given."""

    role: ClassVar[Role] = "remove"

    kind: Literal["remove_blocks"] = Field(default="remove_blocks", description=_KIND)
    blocks: list[int] = Field(default_factory=list, description="Numbers of the blocks to remove.")
    every: int | None = Field(
        default=None, ge=2, description="Remove every n-th block: 2 removes the second, the fourth and so on."
    )
    least_important: int | None = Field(
        default=None, ge=1, description="Remove so many blocks, those whose loss is estimated to cost least."
    )

    @property
    def names_blocks(self) -> bool:
        return self.least_important is None

    @model_validator(mode="after")
    def _one_choice(self) -> "RemoveBlocksSpec":
        if bool(self.blocks) + (self.every is not None) + (self.least_important is not None) != 1:
            raise ValueError("give one of blocks, every and least_important")
        return self


class RemovePartsSpec(PassBase):
    """Remove whole attentions or feed-forwards of blocks. The residual connection and its norm stay."""

    role: ClassVar[Role] = "remove"

    kind: Literal["remove_parts"] = Field(default="remove_parts", description=_KIND)
    attentions: list[int] = Field(default_factory=list, description="Numbers of the blocks that lose their attention.")
    feed_forwards: list[int] = Field(
        default_factory=list, description="Numbers of the blocks that lose their first feed-forward."
    )

    @property
    def names_blocks(self) -> bool:
        return True

    @property
    def bare_blocks(self) -> list[int]:
        return self.attentions


class SplitSpec(PassBase):
    """Split weight matrices of the blocks into pairs of lower rank. It is undone where the model becomes no faster."""

    role: ClassVar[Role] = "remove"
    decides: ClassVar[tuple[str, ...]] = ("ranks",)

    kind: Literal["split"] = Field(default="split", description=_KIND)
    keep: float = Field(
        gt=0, lt=1, description="Part of the parameters of these weights that may stay, between 0 and 1."
    )
    method: Literal["activation", "fisher", "plain"] = Field(
        default="activation",
        description="What the decomposition minimizes the error of: the layer's outputs on the calibration data (activation), the "
        "weights by the importance of their inputs (fisher), or the weights alone (plain).",
    )
    embedding_rank: int | None = Field(
        default=None, ge=1, description="Rank that the largest embedding matrix is split at; not split where not given."
    )
    ranks: dict[str, int] | None = Field(
        default=None, description="Ranks by weight, as an earlier run decided them; nothing is decided then."
    )

    @property
    def needs_blocks(self) -> bool:
        """Whether the pass splits weights of blocks alone, and no embedding."""
        return self.embedding_rank is None


class TrimVocabularySpec(PassBase):
    """Remove tokens that text like this will hardly use. Special tokens and single characters stay.

    Words whose token is removed become several tokens. How often a token will be used is estimated from the text to learn from, and
    from the tokenizer's own ranks for tokens that it lacks.
    """

    role: ClassVar[Role] = "vocabulary"
    once: ClassVar[bool] = True
    decides: ClassVar[tuple[str, ...]] = ("digest",)

    kind: Literal["trim_vocabulary"] = Field(default="trim_vocabulary", description=_KIND)
    tokens: int | None = Field(
        default=None,
        ge=1,
        description="At most so many tokens stay, those of most expected use.",
    )
    coverage: float | None = Field(
        default=None,
        gt=0,
        le=1,
        description="As few tokens stay as cover this share of the tokens of unseen text; 0.999 where neither this nor tokens is given.",
    )
    keep_script: list[str] = Field(
        default_factory=list,
        description="Scripts of which every token stays, as Unicode names them: latin, cyrillic, greek, cjk, arabic and others.",
    )

    digest: str | None = Field(
        default=None,
        pattern="^[0-9a-f]{64}$",
        description="sha256 of the ids that stay, as an earlier run chose them; another choice is refused.",
    )

    @model_validator(mode="after")
    def _one_budget(self) -> "TrimVocabularySpec":
        if self.tokens is not None and self.coverage is not None:
            raise ValueError("trim_vocabulary: give tokens or coverage, not both")
        return self


class ShareSpec(PassBase):
    """Store equal tensors once, and near-equal ones too where `tolerance` is above 0."""

    role: ClassVar[Role] = "share"

    kind: Literal["share"] = Field(default="share", description=_KIND)
    tolerance: float = Field(
        default=0.0, ge=0, description="Relative Frobenius distance up to which two tensors count as equal."
    )

    @property
    def approximates(self) -> bool:
        return self.tolerance > 0


class RepairSpec(PassBase):
    """Refit the remaining weights by least squares, so that they take over what was removed."""

    role: ClassVar[Role] = "repair"

    kind: Literal["repair"] = Field(default="repair", description=_KIND)
    method: Literal["projection", "scale"] = Field(
        default="projection",
        description="What is refitted behind each removal: the whole projection, or one scale for each head or neuron.",
    )


class RecoverSpec(PassBase):
    """Distill the model from its source, without labels. It is undone where answers on text to choose by come no nearer."""

    role: ClassVar[Role] = "recover"
    once: ClassVar[bool] = True

    kind: Literal["recover"] = Field(default="recover", description=_KIND)
    minutes: float = Field(gt=0, description="Minutes of training in all; an interrupted training is resumed.")
    epochs: int | None = Field(
        default=None,
        ge=1,
        description="The training ends sooner, after so many rounds over the text; by time alone where not given.",
    )

    @property
    def chooses(self) -> bool:
        return True


class QuantizeSpec(PassBase):
    """Quantize the weights of blocks, embeddings and LSTMs, and activations where the target computes with integers."""

    role: ClassVar[Role] = "quantize"
    once: ClassVar[bool] = True
    decides: ClassVar[tuple[str, ...]] = ("left",)

    kind: Literal["quantize"] = Field(default="quantize", description=_KIND)
    weights: Literal["int8", "int4"] = Field(
        default="int8", description="Integers that the weights are stored in: int8 for speed and bytes, int4 for bytes."
    )
    activations: Literal["auto", "per-token", "static", "none"] = Field(
        default="auto",
        description="How activations are quantized: per token as each comes (needs Headway's kernels), in static ranges calibrated on "
        "the text, or not at all (none). auto is per token where the bundle has the kernels, else static.",
    )
    block: int | None = Field(
        default=None,
        ge=16,
        description="Number of inputs that share a scale in int4 weights; one scale per channel by default.",
    )
    rounding: Literal["gptq", "nearest"] = Field(
        default="gptq",
        description="How weights are rounded: by GPTQ, which corrects for errors as it goes, or to nearest.",
    )
    ranges: Literal["min-max", "percentile", "entropy", "mse"] = Field(
        default="min-max", description="How static ranges of activations are chosen from the calibration data."
    )
    migrate: bool = Field(
        default=True,
        description="Move scales between activations and the weights behind them, so that both quantize better.",
    )
    correct_bias: bool = Field(default=True, description="Add the mean error of each quantized layer to its bias.")
    tables: bool = Field(default=True, description="Quantize embeddings too.")
    keep: list[str] = Field(default_factory=list, description="Names of modules or weights that stay float.")
    search: bool = Field(
        default=False, description="Return groups of weights to float until at most max_drop points are lost."
    )
    left: list[str] | None = Field(
        default=None,
        description="Weights that a search of an earlier run left in float; with search, nothing is searched then.",
    )

    @property
    def chooses(self) -> bool:
        """Whether what stays float is searched for."""
        return self.search

    @model_validator(mode="after")
    def _fits(self) -> "QuantizeSpec":
        if self.weights == "int4" and self.activations not in ("auto", "none"):
            raise ValueError("int4 is weight-only: no target here multiplies int4 by quantized activations")
        return self


class HalfSpec(PassBase):
    """Store weights and embeddings as float16: half the bytes. Arithmetic stays float32 on CPUs."""

    role: ClassVar[Role] = "store"
    once: ClassVar[bool] = True

    kind: Literal["float16"] = Field(default="float16", description=_KIND)
