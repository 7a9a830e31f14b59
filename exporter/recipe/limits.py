"""Define the gates of a recipe: the limits that `headway gate` judges a bundle by."""

from pydantic import Field

from .pass_specs import StrictModel


class Gates(StrictModel):
    """Limits of a bundle as it runs. Those that are not given are not judged by."""

    p50_ms: float | None = Field(default=None, gt=0, description="Milliseconds of the median answer, at most.")
    p90_ms: float | None = Field(default=None, gt=0, description="Milliseconds of the 90th percentile, at most.")
    p99_ms: float | None = Field(default=None, gt=0, description="Milliseconds of the 99th percentile, at most.")
    throughput: float | None = Field(default=None, gt=0, description="Texts a second in batches, at least.")
    speedup_vs: float | None = Field(
        default=None, gt=0, description="Times as fast as the baseline, at least; 0.95 where there is a baseline."
    )
    max_quality_drop: float | None = Field(
        default=None,
        ge=0,
        description="Points of quality on labeled text that the source may have more, at most; with its confidence.",
    )
    max_mb: float | None = Field(default=None, gt=0, description="Megabytes of the artifact, at most.")
    max_rss_mb: float | None = Field(
        default=None, gt=0, description="Megabytes of memory of a process that answers, at most."
    )
    cold_start_ms: float | None = Field(
        default=None, gt=0, description="Milliseconds from the start of a process to its first answer, at most."
    )
    parity: bool | None = Field(default=None, description="Whether the bundle has to agree with its source again.")

    @property
    def given(self) -> dict[str, float | bool]:
        """The limits that are set."""
        return {name: value for name, value in self.model_dump().items() if value is not None and value is not False}
