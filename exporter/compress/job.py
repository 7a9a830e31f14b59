"""Runs a recipe's passes on a canonical model, one after the other, and measures what each bought. Imports torch."""

import tempfile
from collections.abc import Callable, Mapping
from dataclasses import asdict, dataclass, field
from pathlib import Path
from typing import Any

import numpy as np
import onnx_ir as ir
import torch

from ...calibration.batches import Batch, make_batches
from ...calibration.corpus import fingerprint
from ...errors import UsageError
from ...runners.base import Runner
from ...text import TextEncoder
from ..graph.anatomy import Anatomy, read_anatomy
from ..graph.quantized import is_quantized
from ..graph.torch_graph import TorchGraph
from ..passes.base import PassReport
from ..recipe.recipe import Recipe
from ..source.source import Source
from ..targets.base import Target
from ..targets.ort.target import OrtTarget
from ..targets.registry import target_of
from .evidence import Evidence, collect
from .latency import LatencyTable, Workload, open_model, paired_times
from .quality import Quality
from .recover import Recovery
from .samples import FEW_TEXTS, MOST_TOKENS, check_text, divide
from .search import Plan


@dataclass
class CapturedSource:
    """The source, captured and found to be the same as its graph."""

    source: Source
    model: ir.Model
    encoder: TextEncoder
    per_token: list[str]
    regroup: bool


Step = Callable[..., None]


def runs(model: ir.Model) -> Callable[[Mapping[str, np.ndarray]], dict[str, np.ndarray]]:
    """A canonical model as a function of feeds, by torch."""
    graph = TorchGraph(model)

    def run(feeds: Mapping[str, np.ndarray]) -> dict[str, np.ndarray]:
        with torch.no_grad():
            return {k: t.numpy() for k, t in graph(feeds).items()}

    return run


@dataclass
class Stage:
    """The model after one pass: bytes of the artifact, milliseconds on the workload, quality in points.

    `paid`: whether it saved bytes or time; None where a pass is not there to save. `undone`: taken back, since it did not.
    """

    name: str
    nbytes: int
    ms: float
    quality: float
    changes: dict[str, str] = field(default_factory=dict)
    paid: bool | None = None
    undone: bool = False
    seconds: float = 0.0


@dataclass
class Job:
    """A compression under way."""

    recipe: Recipe
    target: Target
    model: ir.Model
    source_model: ir.Model
    encoder: TextEncoder
    batches: list[Batch]
    batched: Callable[[TextEncoder], list[Batch]]
    texts: list[str]
    labels: np.ndarray | None
    workload: Workload
    quality: Quality
    baseline: Runner
    folder: Path
    fingerprint: str
    text: str
    step: Step
    out: Path
    stages: list[Stage] = field(default_factory=list)
    reports: list[PassReport] = field(default_factory=list)
    plans: list[Plan] = field(default_factory=list)
    table: LatencyTable | None = None
    recovery: Recovery | None = None
    kept_tokens: list[int] | None = None
    full_ms: float = 0.0
    learned: dict[str, Any] | None = None
    observed: dict[str, Any] | None = None
    sensitivity: dict[str, float] | None = None
    left_float: dict[str, str] = field(default_factory=dict)

    @property
    def anatomy(self) -> Anatomy:
        return read_anatomy(self.model)

    def learn(self, model: ir.Model) -> Evidence:
        """What matters in a model as it is."""
        found = collect(
            TorchGraph(model),
            read_anatomy(model),
            self.batches,
            source=self.fingerprint,
            text=self.text,
            labels=self.labels,
            seed=self.recipe.calibration.seed,
            on_batch=lambda: self.step("importances", of=len(self.batches)),
        )
        self.learned = found.describe()
        return found

    def time(self, model: ir.Model) -> tuple[float, int]:
        """Milliseconds on the workload, paired with the source's, and bytes of the artifact.

        What is made for elsewhere is timed in ONNX Runtime on the CPU, since the source is: the summary says so.
        """
        measured = self.target if isinstance(self.target, OrtTarget) else OrtTarget()
        spec = self.target.spec
        if (spec.signed_values or spec.rounds_tokens) and is_quantized(model):
            # Their forms of int8 have no kernels there: the time is the float one's.
            return self.stages[-1].ms, read_anatomy(model).nbytes
        with tempfile.TemporaryDirectory(dir=self.folder) as folder:
            runner = open_model(model.clone(), Path(folder), self.workload.threads, measured)
            whole, own = paired_times([self.baseline, runner], self.workload)
            self.full_ms = self.full_ms or whole
            return self.full_ms * own / whole, sum(p.stat().st_size for p in measured.files(Path(folder)))

    def measure(self, name: str, changes: dict[str, str]) -> Stage:
        """Builds the model as it is, times it beside the uncompressed one, and judges it."""
        ms, nbytes = self.time(self.model)
        points = self.quality.measure(runs(self.model), self.encoder, self.kept_tokens)
        return Stage(name, nbytes, ms, points, changes)


def begin_job(
    whole: CapturedSource,
    recipe: Recipe,
    texts: list[str],
    labels: np.ndarray | None,
    out: Path,
    folder: Path,
    on_step: Step,
) -> Job:
    """Divides the text, measures the source, and sets the work up."""
    encoder, model = whole.encoder, whole.model
    longest = encoder.info.max_length
    learn, judge = divide(len(texts), recipe.calibration)
    seed = recipe.calibration.seed

    def batched(encoder: TextEncoder) -> list[Batch]:
        return make_batches(encoder, [texts[i] for i in learn], longest=longest, most_tokens=MOST_TOKENS, seed=seed)

    batches = batched(encoder)
    check_text(encoder, batches)
    quality = Quality([texts[i] for i in judge], longest, labels[judge] if labels is not None else None)
    quality.learn(runs(model), encoder)
    threads = recipe.work.threads
    lengths = np.concatenate([b.mask.sum(axis=-1).ravel() for b in batches])
    workload = (
        Workload(tuple(recipe.work.shapes), threads) if recipe.work.shapes else Workload.of(lengths, threads=threads)
    )
    widest = max(n for _, n in workload.shapes)
    if widest > longest:
        raise UsageError(f"a batch of {widest} tokens is longer than the model's {longest}")
    judged = set(judge.tolist()) if len(texts) >= FEW_TEXTS else set()
    job = Job(
        recipe=recipe,
        target=target_of(recipe),
        model=model.clone(),
        source_model=model,
        encoder=encoder,
        batches=batches,
        batched=batched,
        texts=[t for i, t in enumerate(texts) if i not in judged],
        labels=labels[learn] if labels is not None else None,
        workload=workload,
        quality=quality,
        baseline=open_model(model.clone(), folder / "baseline", threads),
        folder=folder,
        fingerprint=whole.source.fingerprint,
        text=fingerprint(texts),
        step=on_step,
        out=out,
    )
    job.stages.append(job.measure("source", {}))
    return job


def summarize(job: Job) -> dict[str, Any]:
    first, last = job.stages[0], job.stages[-1]
    return {
        "workload": {"shapes": [list(s) for s in job.workload.shapes], "threads": job.workload.threads},
        "measured_in": "ONNX Runtime on a CPU",
        "metric": job.quality.metric,
        "held_out": len(job.quality.texts),
        "source_quality": job.quality.source,
        "speedup": first.ms / last.ms,
        "stages": [asdict(s) for s in job.stages],
        "reports": [p.to_json() for p in job.reports],
        "evidence": job.learned,
        "observations": job.observed,
        "sensitivity": job.sensitivity,
        "left_in_float": job.left_float,
        "expected_ms": job.plans[-1].cost + job.table.rest if job.plans and job.table is not None else None,
        "machine": job.table.machine if job.table is not None else None,
    }


def write_plots(job: Job, staging: Path) -> None:
    from ..publish.plots import plot_losses, plot_sensitivity, plot_stages

    (staging / "plots").mkdir(exist_ok=True)
    plot_stages([asdict(s) for s in job.stages], job.quality.metric, staging / "plots" / "passes.png")
    if job.sensitivity is not None:
        groups = [{"name": n, "error": e} for n, e in job.sensitivity.items()]
        plot_sensitivity(groups, staging / "plots" / "sensitivity.png")
    if job.recovery is not None:
        plot_losses(job.recovery.losses, staging / "plots" / "recovery.png")
