"""Define what a search over stacks of passes may try: for each choice of a trial the values that it has."""

from typing import Annotated, Literal

from pydantic import Field, model_validator

from .pass_specs import StrictModel

CutKind = Literal["heads", "neurons", "ranks", "blocks"]
Scheme = Literal["none", "float16", "int8", "int4"]
Activations = Literal["auto", "per-token", "static", "none"]

Speed = Annotated[float, Field(ge=1, le=100)]
Share = Annotated[float, Field(gt=0, le=1)]
Minutes = Annotated[float, Field(ge=0, le=10_000)]
Blocks = Annotated[int, Field(ge=0, le=1024)]


class SearchSpace(StrictModel):
    """What a search tries. A trial takes one value of each list; of `cut` it takes some. A list of one value decides it."""

    speedups: list[Speed] = Field(
        default=[1.0, 1.25, 1.5, 2.0, 2.5, 3.0, 4.0],
        min_length=1,
        max_length=64,
        description="Budgets of a cut, as times as fast as the source by the latency table; 1 cuts nothing.",
    )
    cut: list[CutKind] = Field(
        default=["heads", "neurons", "ranks", "blocks"],
        min_length=1,
        description="What a cut may remove: `heads`, `neurons`, `ranks` and whole `blocks`. Each trial takes some of them.",
    )
    rounds: list[Literal["one", "several"]] = Field(
        default=["one", "several"],
        min_length=1,
        description="Rounds of a cut: `one`, or `several`, one for each factor of 1.5, with a repair between one and the next.",
    )
    vocabulary: list[Share] = Field(
        default=[1.0, 0.999, 0.99],
        min_length=1,
        max_length=64,
        description="Shares of the tokens of unseen text that the vocabulary covers; 1 trims nothing.",
    )
    trim: list[Literal["before", "after"]] = Field(
        default=["before", "after"],
        min_length=1,
        description="Whether the vocabulary is trimmed `before` the cut or `after` it.",
    )
    quantize: list[Scheme] = Field(
        default=["none", "float16", "int8"],
        min_length=1,
        description="How weights are stored: `none` for float32, `float16`, `int8` or `int4`.",
    )
    activations: list[Activations] = Field(
        default=["auto"],
        min_length=1,
        description="How activations are quantized where weights are int8, as the pass quantize takes it.",
    )
    float_blocks: list[Blocks] = Field(
        default=[0, 1, 2],
        min_length=1,
        max_length=64,
        description="So many blocks stay float where weights are int8 or int4: those that lose most by it.",
    )
    recover_minutes: list[Minutes] = Field(
        default=[0.0, 1.0],
        min_length=1,
        max_length=64,
        description="Minutes of recovery behind a cut, at most; 0 for none.",
    )

    @model_validator(mode="after")
    def _each_once(self) -> "SearchSpace":
        for name, values in self:
            if len(set(values)) < len(values):
                raise ValueError(f"{name} names a value twice")
        return self
