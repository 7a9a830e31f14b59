"""Make trials where a search runs: in this process, one after the other. Imports torch where it begins."""

from collections.abc import Callable, Iterator
from contextlib import contextmanager, suppress
from dataclasses import dataclass
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any, Protocol

import onnx_ir as ir

from ...errors import HeadwayError, UsageError
from ..bench.measure import machine
from ..compress.job import Step
from ..compress.latency import measure_table
from ..compress.latency_table import LatencyTable
from ..compress.stopwatch import Workload
from ..recipe.recipe import Recipe
from ..targets.base import TargetSpec
from .clock import SharedStopwatch, alone
from .evaluate import TrialRequest, evaluate
from .predict import scheme_factor
from .prepared_source import PreparedSource, prepared
from .trial_record import TrialRecord
from .trial_settings import TrialSettings

MeasureTable = Callable[[ir.Model, Workload, TargetSpec, Step], LatencyTable]


@dataclass(frozen=True)
class SourceFacts:
    """What a search knows of its source before the first trial, and keeps: later runs and other processes predict by the same.

    `table` is a latency table as plain values, `factors` are those of `predict.scheme_factor` by scheme.
    """

    fingerprint: str
    text: str
    ms: float
    mb: float
    quality: float
    metric: str
    workload: dict[str, Any]
    texts: dict[str, int]
    machine: dict[str, Any]
    table: dict[str, Any]
    factors: dict[str, float]
    space: dict[str, Any]

    @property
    def latencies(self) -> LatencyTable:
        """The latency table."""
        return LatencyTable.from_json(self.table)


class Crew(Protocol):
    """What makes trials, `size` of them at a time."""

    size: int

    def facts(self, known: SourceFacts | None) -> SourceFacts:
        """Return what is known of the source, measured now where it was not `known`. UsageError where source or text changed since."""
        ...

    def begin(self, request: TrialRequest) -> None:
        """Begin a trial."""
        ...

    def next(self) -> TrialRecord:
        """Wait for the next trial that ends. One whose process or node is lost has the state "lost"."""
        ...


class OwnCrew:
    """A crew of this process alone."""

    size = 1

    def __init__(self, source: PreparedSource):
        self._source = source
        self._waiting: list[TrialRequest] = []

    def facts(self, known: SourceFacts | None) -> SourceFacts:
        """Return what is known of the source, measured now where it was not `known`. UsageError where source or text changed since."""
        return facts_of(self._source) if known is None else still_true(known, self._source)

    def begin(self, request: TrialRequest) -> None:
        """Take note of a trial."""
        self._waiting.append(request)

    def next(self) -> TrialRecord:
        """Make the trial that was begun first."""
        return evaluate(self._source, self._waiting.pop(0))


@contextmanager
def own_crew(recipe: Recipe, *, work: Path | None, allow_pickle: bool, step: Step) -> Iterator[OwnCrew]:
    """Yield a crew of this process. Raise as `prepared` does."""
    with prepared(recipe, work=work, allow_pickle=allow_pickle, clock=SharedStopwatch, step=step) as source:
        yield OwnCrew(source)


def own_table(model: ir.Model, workload: Workload, spec: TargetSpec, step: Step) -> LatencyTable:
    """Return the latency table of a model on this machine."""
    with alone():
        return measure_table(model, workload, spec, on_level=step)


def still_true(known: SourceFacts, source: PreparedSource) -> SourceFacts:
    """Return what is `known` of a source. UsageError where the source or its text is not what it was when that was measured.

    Texts that judge are divided from the text by its content: of a changed one, some that judged before would choose now.
    """
    given = source.first.given
    for what, before, now in (
        (f"the source {source.flow.recipe.source}", known.fingerprint, given.source_fingerprint),
        (f"the text ({', '.join(map(str, source.flow.recipe.files))})", known.text, given.text_fingerprint),
    ):
        if before != now:
            raise UsageError(
                f"{what} has changed since this search began: give another --out, or --force to begin anew"
            )
    return known


def facts_of(source: PreparedSource, measure: MeasureTable = own_table) -> SourceFacts:
    """Measure what a search needs to know of its source; `measure` returns the latency table."""
    job = source.first
    given, stage = job.given, job.outcome.stages[0]
    assert stage.judged is not None and given.choice is not None
    workload = given.stopwatch.workload
    given.step("latency table")
    table = measure(source.model, workload, given.target.spec, given.step)
    return SourceFacts(
        fingerprint=given.source_fingerprint,
        text=given.text_fingerprint,
        ms=given.stopwatch.source_ms,
        mb=stage.nbytes / 1e6,
        quality=stage.quality,
        metric=given.quality.metric,
        workload={"shapes": [list(shape) for shape in workload.shapes], "threads": workload.threads},
        texts={
            "learn": len(given.learned_from),
            "choose": len(given.choice.texts),
            "judge": len(given.quality.texts),
        },
        machine=table.machine or machine(),
        table=table.to_json(),
        factors=_factors(source),
        space=source.space.model_dump(mode="json"),
    )


def _factors(source: PreparedSource) -> dict[str, float]:
    """Return by scheme how long the whole model takes, as a part of the float model's time; nothing of one that is refused."""
    space, factors = source.space, {}
    for quantize in space.quantize:
        for activations in space.activations if quantize == "int8" else ["auto"]:
            settings = TrialSettings(speedup=2.0, quantize=quantize, activations=activations)
            source.first.given.step(f"latency, {settings.scheme}", of=0)
            with suppress(HeadwayError), TemporaryDirectory(dir=source.folder) as staging:
                _, job = source.begin(settings, Path(staging), source.folder / "factor")
                factors[settings.scheme] = scheme_factor(job)
    return factors
