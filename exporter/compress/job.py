"""Hold a compression under way: what is given, what was learned, and what came out. Imports torch."""

from collections.abc import Callable, Mapping
from dataclasses import asdict, dataclass, field, fields
from pathlib import Path
from typing import Any

import numpy as np
import onnx_ir as ir
import torch

from ...calibration.batches import Batch, make_batches
from ...calibration.corpus import TextFile, fingerprint_of
from ...errors import UsageError
from ...tasks import Scoring
from ...text import Text, TextEncoder
from ..graph.anatomy import Anatomy, read_anatomy
from ..graph.quantized import is_quantized
from ..graph.torch_graph import TorchGraph
from ..passes.base import PassReport
from ..recipe.pass_specs import PassBase
from ..recipe.recipe import Recipe
from ..targets.base import Target
from .agreement import Judged
from .built import Point
from .latency_table import LatencyTable
from .quality import Judge
from .recover import Recovery
from .samples import MOST_TOKENS, check_text, divide_files
from .search import CutPlan
from .stopwatch import Stopwatch, Timing, Workload
from .work import Work, digest_of_batches, digest_of_model, key_of

Step = Callable[..., None]
"""Called with the name of a step as it begins, and with `of` and `at`, the length of a long one and how far it is."""

Clock = Callable[[ir.Model, Workload, Target, Path], Stopwatch]
"""Returns what times models beside the source: called with the source, the workload, the target, and a folder to build models in."""

Changes = dict[str, str]
"""What a pass changed, in words, by block or tensor."""


def as_function(model: ir.Model) -> Callable[[Mapping[str, np.ndarray]], dict[str, np.ndarray]]:
    """Return a canonical model as a function of feeds, run by torch."""
    graph = TorchGraph(model)

    def run(feeds: Mapping[str, np.ndarray]) -> dict[str, np.ndarray]:
        with torch.no_grad():
            return {name: tensor.numpy() for name, tensor in graph(feeds).items()}

    return run


@dataclass
class Stage:
    """The model after one pass: bytes of the artifact, milliseconds on the workload, quality in points.

    `timing` is its latency beside the source's, as it was measured then. `judged` says what the quality is: its points on every file of
    text, of which `quality` has the worst.
    `paid`: whether it saved bytes or time; None where a pass is not there to save. `undone`: taken back, since it did not.
    """

    name: str
    nbytes: int
    ms: float
    quality: float
    changes: Changes
    timing: Timing
    paid: bool | None = None
    undone: bool = False
    seconds: float = 0.0
    judged: Judged | None = None

    def to_json(self) -> dict[str, Any]:
        """Return the figures as plain values: of the timing the 95 % interval of the latency as a part of the source's, of several
        files of text the points on each.
        """
        values = {f.name: getattr(self, f.name) for f in fields(self) if f.name not in ("judged", "timing")}
        by_file = self.judged.by_file if self.judged is not None else {}
        return (
            values | {"latency_ratio": [self.timing.low, self.timing.high]} | ({"by_file": by_file} if by_file else {})
        )

    def set_judged(self, judged: Judged) -> None:
        """Take note of a verdict on the model."""
        self.quality, self.judged = judged.points, judged


@dataclass(frozen=True)
class Given:
    """What a compression works with, the same from the first pass to the last.

    `learned_from` are the texts that calibration batches are made of, `labels` their labels, `scoring` how the model's logits are
    read; `texts` are all that are not held out. `quality` judges what comes out, on each file of text by itself. `choice` is the same
    figure on other texts, by which passes that try and compare decide; None where none does. `staging` holds the tokenizer of the
    bundle, which becomes `out`. `step` is told what begins. `work` keeps what is learned for other runs.
    """

    recipe: Recipe
    target: Target
    source_fingerprint: str
    text_fingerprint: str
    learned_from: list[Text]
    labels: np.ndarray | None
    scoring: Scoring | None
    texts: list[Text]
    quality: Judge
    choice: Judge | None
    stopwatch: Stopwatch
    staging: Path
    out: Path
    step: Step
    work: Work

    @property
    def seed(self) -> int:
        """The seed of every random choice."""
        return self.recipe.calibration.seed

    def batches(self, encoder: TextEncoder) -> list[Batch]:
        """Return the calibration data, tokenized by `encoder`."""
        longest = encoder.info.max_length
        return make_batches(encoder, self.learned_from, longest=longest, most_tokens=MOST_TOKENS, seed=self.seed)


@dataclass
class Learned:
    """What the passes learned from the text and from the machine; most of it stands in the manifest.

    `sensitivity`: the error that each group of weights adds when it alone is quantized; `noise`: its unit, and the error that
    rounding alone makes. `curve`: models that searches on the same data built.
    """

    evidence: dict[str, Any] | None = None
    observations: dict[str, Any] | None = None
    sensitivity: dict[str, float] | None = None
    noise: tuple[str, float] = ("", 0.0)
    table: LatencyTable | None = None
    plans: list[CutPlan] = field(default_factory=list)
    curve: list[Point] = field(default_factory=list)
    other_lengths: list[dict[str, Any]] = field(default_factory=list)


@dataclass
class Outcome:
    """What has come out so far.

    `passes`: those of the recipe that were made, with what each decided, so that run again they decide the same. `decided`: what the
    pass under way decided, as keys of its spec. `kept_tokens`: of a trimmed vocabulary the old ids; `vocabulary`: what it covers.
    `left_float`: weights that were not quantized, with the reason.
    """

    model: ir.Model
    stages: list[Stage] = field(default_factory=list)
    passes: list[PassBase] = field(default_factory=list)
    decided: dict[str, Any] = field(default_factory=dict)
    reports: list[PassReport] = field(default_factory=list)
    recovery: Recovery | None = None
    kept_tokens: list[int] | None = None
    vocabulary: dict[str, Any] | None = None
    left_float: dict[str, str] = field(default_factory=dict)


@dataclass
class Job:
    """A compression under way. `source_model`, `encoder` and `batches` follow the vocabulary where it is trimmed."""

    given: Given
    outcome: Outcome
    source_model: ir.Model
    encoder: TextEncoder
    batches: list[Batch]
    learned: Learned = field(default_factory=Learned)

    @property
    def anatomy(self) -> Anatomy:
        """The anatomy of the model as it is."""
        return read_anatomy(self.outcome.model)

    @property
    def basis(self) -> str:
        """A digest of what everything that is learned depends on, beside the model: calibration data, labels, and how they are read."""
        labels = None if self.given.labels is None else self.given.labels.tolist()
        return key_of(digest_of_batches(self.batches), labels, repr(self.given.scoring), self.given.seed)

    def time(self, model: ir.Model) -> tuple[Timing, int]:
        """Return the latency on the workload, beside the source's, and bytes of the artifact."""
        if is_quantized(model) and not self.times_int8:
            return self.outcome.stages[-1].timing, read_anatomy(model).nbytes
        return self.given.stopwatch.time(model)

    def timed(self, model: ir.Model) -> tuple[Timing, int]:
        """Return what `time` does, taken once for each model on each machine: a later run with another limit goes on at once.

        Where the machine was too busy for a narrow interval, it is taken again by the next run.
        """
        if is_quantized(model) and not self.times_int8:
            return self.time(model)
        known = self.given.work.known("timing", self.timing_key(model))
        if known is not None:
            return Timing(**known["latency"]), int(known["bytes"])
        timing, nbytes = self.given.stopwatch.time(model)
        self.keep_timing(model, timing, nbytes)
        return timing, nbytes

    def keep_timing(self, model: ir.Model, timing: Timing, nbytes: int) -> None:
        """Keep the latency of a model for later runs, if its interval is narrow."""
        if timing.is_narrow:
            kept = {"latency": asdict(timing), "bytes": nbytes}
            self.given.work.keep_values("timing", self.timing_key(model), kept)

    def timing_key(self, model: ir.Model, *more: Any) -> str:
        """Return the name of latencies of a model in the work folder: `more` says which."""
        stopwatch, target = self.given.stopwatch, self.given.target.spec
        digests = [stopwatch.source_digest, digest_of_model(model)]
        built_for = [asdict(target), asdict(stopwatch.target)]  # the same model has other kernels in each
        return key_of(stopwatch.about(), asdict(stopwatch.workload), built_for, digests, *more)

    @property
    def times_int8(self) -> bool:
        """Whether the target's form of int8 has kernels in ONNX Runtime on a CPU. Else its time is the float model's."""
        spec = self.given.target.spec
        return not (spec.signed_activations or spec.quantizes_tokens)

    def judge(self, model: ir.Model) -> Judged:
        """Return how well a model does on the held-out text of each file."""
        return self.given.quality.judge(as_function(model), self.encoder, self.outcome.kept_tokens)

    def choice_drop(self, model: ir.Model) -> float:
        """Return the points that a model loses on the texts to choose by; of several files, where it loses most."""
        choice = self.given.choice
        assert choice is not None, "the recipe's pass chooses, so texts were set aside for it"
        return choice.judge(as_function(model), self.encoder, self.outcome.kept_tokens).lost

    def measure(self, name: str, changes: Changes) -> Stage:
        """Build the model as it is, time it beside the source, and judge it. The source itself is timed in each run."""
        timing, nbytes = (self.timed if self.outcome.stages else self.time)(self.outcome.model)
        judged = self.judge(self.outcome.model)
        ms = self.given.stopwatch.source_ms * timing.ratio
        return Stage(name, nbytes, ms, judged.points, changes, timing, judged=judged)


def begin_job(
    recipe: Recipe,
    target: Target,
    model: ir.Model,
    encoder: TextEncoder,
    source_fingerprint: str,
    files: list[TextFile],
    *,
    staging: Path,
    out: Path,
    folder: Path,
    step: Step,
    work: Work,
    scoring: Scoring | None = None,
    task: str | None = None,
    clock: Clock = Stopwatch,
) -> Job:
    """Divide the text, measure the source by `clock`, and set the work up. `folder` is for models that are built to be timed.

    Raises UsageError where the text becomes no known tokens, or the workload is longer than the model takes.
    """
    longest = encoder.info.max_length
    parts = divide_files(files, recipe.calibration, choosing=recipe.chooses)
    batches = make_batches(
        encoder, parts.learned_from, longest=longest, most_tokens=MOST_TOKENS, seed=recipe.calibration.seed
    )
    check_text(encoder, batches)
    quality, choice = (
        Judge.of(part, longest, scoring, task, as_function(model), encoder) if part else None
        for part in (parts.judge, parts.choose)
    )
    assert quality is not None
    given = Given(
        recipe=recipe,
        target=target,
        source_fingerprint=source_fingerprint,
        text_fingerprint=fingerprint_of(files),
        learned_from=parts.learned_from,
        labels=parts.labels,
        scoring=scoring,
        texts=parts.texts,
        quality=quality,
        choice=choice,
        stopwatch=clock(model, _workload(recipe, batches, longest), target, folder),
        staging=staging,
        out=out,
        step=step,
        work=work,
    )
    job = Job(given, Outcome(model.clone()), model, encoder, batches)
    job.outcome.stages.append(job.measure("source", {}))
    return job


def _workload(recipe: Recipe, batches: list[Batch], longest: int) -> Workload:
    """Return the recipe's own workload, or texts alone at the lengths of the calibration data."""
    threads = recipe.work.threads
    lengths = np.concatenate([b.mask.sum(axis=-1).ravel() for b in batches])
    workload = (
        Workload(tuple(recipe.work.shapes), threads) if recipe.work.shapes else Workload.of(lengths, threads=threads)
    )
    widest = max(tokens for _, tokens in workload.shapes)
    if widest > longest:
        raise UsageError(f"a batch of {widest} tokens is longer than the model's {longest}")
    return workload


def summarize(job: Job) -> dict[str, Any]:
    """Return what the manifest says about a compression."""
    given, learned, outcome = job.given, job.learned, job.outcome
    first, last = outcome.stages[0], outcome.stages[-1]
    judged = last.judged
    assert judged is not None
    workload, table = given.stopwatch.workload, learned.table
    return {
        "workload": {"shapes": [list(s) for s in workload.shapes], "threads": workload.threads},
        "measured_in": "ONNX Runtime on a CPU",
        "metric": given.quality.metric,
        "held_out": len(given.quality.texts),
        "texts": {
            "learn": len(given.learned_from),
            "choose": len(given.choice.texts) if given.choice is not None else 0,
            "judge": len(given.quality.texts),
        },
        "source_quality": judged.worst.source,
        "agreement": judged.record(),
        "speedup": first.ms / last.ms,
        "asked": next((a for p in given.recipe.passes if (a := p.asked)), None),
        "other_lengths": learned.other_lengths,
        "curve": [asdict(p) for p in learned.curve],
        "stages": [s.to_json() for s in outcome.stages],
        "reports": [p.to_json() for p in outcome.reports],
        "evidence": learned.evidence,
        "observations": learned.observations,
        "sensitivity": learned.sensitivity,
        **(
            {"sensitivity_unit": learned.noise[0], "sensitivity_noise_floor": learned.noise[1]}
            if learned.sensitivity is not None
            else {}
        ),
        "left_in_float": outcome.left_float,
        "vocabulary": outcome.vocabulary,
        "expected_ms": learned.plans[-1].cost + table.rest if learned.plans and table is not None else None,
        "machine": table.machine if table is not None else None,
        "latency_table": table.digest if table is not None else None,
    }


def write_plots(job: Job, staging: Path) -> None:
    """Draw what each pass gained, and where there are any, sensitivities and training losses."""
    from ..publish.plots import plot_losses, plot_sensitivity, plot_stages

    (staging / "plots").mkdir(exist_ok=True)
    plot_stages([s.to_json() for s in job.outcome.stages], job.given.quality.metric, staging / "plots" / "passes.png")
    if job.learned.sensitivity is not None:
        groups = [{"name": name, "error": error} for name, error in job.learned.sensitivity.items()]
        plot_sensitivity(groups, *job.learned.noise, staging / "plots" / "sensitivity.png")
    if job.outcome.recovery is not None:
        plot_losses(job.outcome.recovery.losses, staging / "plots" / "recovery.png")
