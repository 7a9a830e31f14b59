"""Make one trial: cheap figures first, the whole judgment only where it may reach the front. Imports torch."""

import time
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, replace
from pathlib import Path

import onnx_ir as ir

from ...calibration.batches import make_batches
from ...calibration.objective import disagreement_over
from ...errors import GateError, HeadwayError
from ..check.diagnose import parity_failure
from ..compress.budget import check_quality
from ..compress.job import Changes, Job, Stage
from ..compress.latency_table import LatencyTable
from ..compress.steps import function_of
from ..compress.work import digest_of_model
from ..export import Flow, as_compressed, build_artifact, publish
from ..graph.anatomy import read_anatomy
from ..graph.torch_graph import TorchGraph
from ..recipe.pass_specs import FitSpec, PassBase, QuantizeSpec
from ..recipe.passes import PASSES
from ..targets.ort.target import OrtTarget
from ..validate.processes import run_block
from .clock import NothingMeasures
from .hopeless import after_cut, before_building, once_timed
from .planned_cut import cut_by_table
from .predict import predicted_ms, with_float_blocks
from .prepared_source import PreparedSource
from .sensitive_blocks import sensitive_blocks
from .trial_record import Expected, Measured, State, TrialRecord
from .trial_settings import TrialSettings

FEW_TEXTS = 64
"""So many of the texts to choose by tell how far a cut model is from its source."""

MOST_LETTERS = 900
"""A sentence on why a trial was refused is cut here."""

_CUTTING = ("vocabulary", "remove", "share", "repair")


@dataclass(frozen=True)
class TrialRequest:
    """A trial to be made: its `number` and `settings`, the trials `known` by then, and what latency is predicted from.

    `factors`: by scheme, see `predict.scheme_factor`. `source_ms`: the milliseconds of the source that all latencies of the search are
    told in, whichever process measures their ratios. `bundles` is the folder of bundles. `rss`: memory is an objective too.
    """

    number: int
    settings: TrialSettings
    known: tuple[TrialRecord, ...]
    table: LatencyTable
    factors: dict[str, float]
    source_ms: float
    bundles: Path
    rss: bool = False

    @property
    def out(self) -> Path:
        """Where the trial's bundle is put."""
        return self.bundles / f"{self.number:03d}"


class _Ended(Exception):
    """A trial that made no bundle; `record` is what it found out."""

    def __init__(self, record: TrialRecord, why: str, state: State = "stopped"):
        super().__init__(why)
        self.record = replace(record, state=state, why=why[:MOST_LETTERS])


def evaluate(source: PreparedSource, request: TrialRequest) -> TrialRecord:
    """Make a trial, and return what came of it; its bundle is in place where it is one.

    What a pass or a gate refuses is a result, and so is what torch or ONNX Runtime cannot do, or not in this memory. Errors of the system
    and interrupts are raised, and so is TargetError where nothing can be measured any more.
    """
    began = time.monotonic()
    settings = request.settings
    record = TrialRecord(request.number, settings.to_json(), "refused")
    try:
        if not settings.changes:
            raise _Ended(record, "it leaves the source as it is")
        with _refusing(record), source.trial(settings, request.out) as (flow, job):
            record = _made(source, request, flow, job, record)
    except _Ended as ended:
        record = ended.record
    return replace(record, seconds=round(time.monotonic() - began, 3))


@contextmanager
def _refusing(record: TrialRecord) -> Iterator[None]:
    """Raise _Ended, with what `record` knows, for what a pass, a gate, torch or ONNX Runtime refuses."""
    try:
        yield
    except (_Ended, NothingMeasures):
        raise
    except HeadwayError as error:
        if isinstance(error.__cause__, OSError):  # a full disk refuses every trial, and none for good
            raise
        raise _Ended(record, str(error), "refused") from error
    except Exception as error:
        if not isinstance(error, RuntimeError | MemoryError) and not type(error).__module__.startswith("onnxruntime."):
            raise
        words = " ".join(f"{type(error).__name__}: {error}".split())
        raise _Ended(record, f"it could not be made: {words}", "refused") from error


def _made(source: PreparedSource, request: TrialRequest, flow: Flow, job: Job, record: TrialRecord) -> TrialRecord:
    """Make the passes, and the bundle where it may reach the front. Raises _Ended where not."""
    _set_source_ms(job, request.source_ms)
    changes: Changes = {}
    for spec in flow.recipe.passes:
        if spec.role in _CUTTING:
            changes |= _pass(job, spec, request)
    record = _after_cut(source, request, job, record)
    plain = None
    for spec in flow.recipe.passes:
        if spec.role not in _CUTTING:
            if isinstance(spec, QuantizeSpec) and not job.times_int8:
                plain = job.outcome.model.clone()
            changes |= _pass(job, _keeping(source, job, spec, request.settings.float_blocks), request)
    record = _whole(request, job, record)
    with _refusing(record):  # what is expected is kept: the sampler may not learn from the texts that judge
        return _judged(source, request, flow, job, record, changes, plain)


def _set_source_ms(job: Job, ms: float) -> None:
    """Tell a job's latencies in milliseconds of a source that takes so many."""
    job.given.stopwatch.source_ms = ms
    job.outcome.stages[0] = replace(job.outcome.stages[0], ms=ms)


def _judged(
    source: PreparedSource,
    request: TrialRequest,
    flow: Flow,
    job: Job,
    record: TrialRecord,
    changes: Changes,
    plain: ir.Model | None,
) -> TrialRecord:
    """Build, time and judge the model, and publish it. Raises _Ended where a bundle beats it, GateError where a gate refuses it.

    `plain`: the model before it was quantized, which is timed in its place where ONNX Runtime has no kernels for the target's int8.
    """
    assert record.expected is not None and record.expected.lost is not None
    timing, nbytes = job.given.stopwatch.time(job.outcome.model if plain is None else plain)
    if plain is not None:
        nbytes = read_anatomy(job.outcome.model).nbytes
    ms = job.given.stopwatch.source_ms * timing.ratio
    mb, known = nbytes / 1e6, request.known
    if plain is not None or not isinstance(
        job.given.target, OrtTarget
    ):  # what is timed is not the file that is published
        mb, known = record.expected.mb, tuple(map(_with_counted_size, known))
    why = None if request.rss else once_timed(record.expected.lost, ms, mb, known)
    if why is not None:
        raise _Ended(record, why)
    judged = job.judge(job.outcome.model)
    name = ", ".join(spec.kind for spec in job.outcome.passes)
    job.outcome.stages.append(Stage(name, nbytes, ms, judged.points, changes, timing, paid=None, judged=judged))
    check_quality(job)
    return _published(source, request, flow, job, record)


def _with_counted_size(record: TrialRecord) -> TrialRecord:
    """Return a record with the megabytes of its weights in the place of those of its files, as they are known before a file is there."""
    if record.measured is None or record.expected is None:
        return record
    return replace(record, measured=replace(record.measured, mb=record.expected.mb))


def _pass(job: Job, spec: PassBase, request: TrialRequest) -> Changes:
    """Make a pass without measuring it. The cut is planned by the latency table."""
    outcome = job.outcome
    outcome.decided = {}
    if isinstance(spec, FitSpec):
        spec, changes = cut_by_table(job, request.settings, request.table)
    else:
        changes = function_of(PASSES[spec.kind].function)(job, spec)
    outcome.passes.append(spec.model_copy(update=outcome.decided))
    return {f"{spec.kind}: {where}": what for where, what in changes.items()}


def _keeping(source: PreparedSource, job: Job, spec: PassBase, left: int) -> PassBase:
    """Return a quantize pass that keeps so many blocks in float, the most sensitive ones; any other pass as it is."""
    if not left or not isinstance(spec, QuantizeSpec):
        return spec
    names = [name for block in sensitive_blocks(source.first, spec)[:left] for name in block]
    there = job.outcome.model.graph.initializers
    keep = [name for name in names if any(n == name or n.startswith(f"{name}.") for n in there)]
    return spec.model_copy(update={"keep": keep})


def _after_cut(source: PreparedSource, request: TrialRequest, job: Job, record: TrialRecord) -> TrialRecord:
    """Take note of what the cut model is expected to be. Raises _Ended where it cannot reach the front."""
    settings = request.settings
    factor = with_float_blocks(request.factors.get(settings.scheme, 1.0), settings.float_blocks, source.blocks)
    ms = predicted_ms(request.table, job.outcome.model) * factor
    off = _distance(job)
    plain_mb = job.anatomy.nbytes / 1e6
    record = replace(record, expected=Expected(ms, plain_mb, off), plain_mb=plain_mb)
    why = after_cut(record, request.known)
    if why is not None:
        raise _Ended(record, why)
    return record


def _distance(job: Job) -> float:
    """Return how far the model's answers to a few of the texts to choose by are from the source's."""
    choice = job.given.choice
    assert choice is not None, "a search sets texts aside to choose by"
    longest = job.encoder.info.max_length
    few = make_batches(job.encoder, choice.texts, longest=longest, samples=FEW_TEXTS, seed=job.given.seed)
    source = TorchGraph(job.source_model)
    answers = (source(batch.feeds) for batch in few)
    return float(disagreement_over(TorchGraph(job.outcome.model), few, answers, job.given.scoring))


def _whole(request: TrialRequest, job: Job, record: TrialRecord) -> TrialRecord:
    """Take note of what the whole model loses on the texts to choose by. Raises _Ended where it need not be built."""
    assert record.expected is not None
    expected = replace(
        record.expected, mb=read_anatomy(job.outcome.model).nbytes / 1e6, lost=float(job.choice_drop(job.outcome.model))
    )
    record = replace(record, expected=expected, model=digest_of_model(job.outcome.model))
    why = before_building(record, request.known, job.given.recipe.max_drop, only_equal=request.rss)
    if why is not None:
        raise _Ended(record, why)
    return record


def _published(source: PreparedSource, request: TrialRequest, flow: Flow, job: Job, record: TrialRecord) -> TrialRecord:
    """Write, verify and judge the bundle. Raises GateError where it is not what it has to be."""
    recipe = flow.recipe.model_copy(update={"passes": job.outcome.passes})
    flow = replace(flow, recipe=recipe)
    job.given = replace(job.given, recipe=recipe)
    graph = source.graph_of(job)
    built = build_artifact(flow, graph, as_compressed(flow, graph, job), source.identity)
    if not built.parity.ok:
        raise GateError(parity_failure(built.parity))
    nbytes = publish(flow, built)
    rss = _memory(flow.staging, job) if request.rss else None
    return replace(record, state="bundle", measured=_measured(job, nbytes / 1e6, rss))


def _memory(bundle: Path, job: Job) -> float | None:
    """Return the megabytes of memory of a process that answers some texts: none of those that judge, since memory decides the front."""
    texts = job.given.texts[:FEW_TEXTS]
    return run_block({"bundle": str(bundle), "threads": job.given.stopwatch.workload.threads, "texts": texts}).rss_mb


def _measured(job: Job, mb: float, rss: float | None) -> Measured:
    stage, source_ms = job.outcome.stages[-1], job.given.stopwatch.source_ms
    judged = stage.judged
    assert judged is not None, "a bundle is judged"
    worst = judged.worst
    low, high = stage.timing.low * source_ms, stage.timing.high * source_ms
    return Measured(stage.ms, low, high, mb, worst.points, *worst.interval, worst.lost, *worst.lost_interval, rss)
