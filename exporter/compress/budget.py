"""Hold a compression to what was asked: the quality that it keeps, and what the artifact takes after all passes, as it was measured."""

import warnings
from dataclasses import dataclass
from typing import Any

import onnx_ir as ir

from ...errors import GateError, HeadwayWarning
from ..bench.measure import DEFAULT_CASES
from ..graph.anatomy import read_anatomy
from ..graph.quantized import is_quantized
from ..passes.quantize import StoreHalf
from ..recipe.pass_specs import FitSpec, HalfSpec, QuantizeSpec
from ..targets.registry import kernels_of
from .agreement import check_drop
from .built import curve_words
from .fit import NEAR
from .job import Job
from .rounding_plan import activations_for, plan, quantized_for_timing
from .stopwatch import RESOLUTION_MS

_SLACK = 0.01
"""The part of what was asked by which an artifact may be measured to take more, where its interval reaches what was asked."""


def goal_ms(job: Job, spec: FitSpec) -> float:
    """Return the latency that is asked for, in milliseconds on the workload."""
    return job.given.stopwatch.source_ms / spec.speedup if spec.speedup else float(spec.latency_ms or 0)


def as_deployed(job: Job, model: ir.Model, spec: FitSpec) -> ir.Model:
    """Return a model as the passes behind `fit` will store it, to be timed.

    Its ranges and integers are stand-ins for what those passes learn, on which latency does not depend.
    """
    passes = job.given.recipe.passes
    for later in passes[passes.index(spec) + 1 :]:
        if isinstance(later, QuantizeSpec) and job.times_int8:
            target = job.given.target.spec
            per_token = target.quantizes_tokens or kernels_of(job.given.recipe) != "stock"
            chosen = plan(
                model,
                read_anatomy(model),
                later,
                int8_tables=target.int8_embeddings,
                int8_recurrent=target.int8_recurrent,
            )
            model = quantized_for_timing(
                model,
                chosen,
                later,
                activations=activations_for(later, kernels=per_token),
                signed=target.signed_activations,
            )
        elif isinstance(later, HalfSpec):
            model = model.clone()
            StoreHalf()(model)
    return model


def check_quality(job: Job) -> None:
    """Raise GateError where too much quality was lost; it names what a search built on its way."""
    most, judged = job.given.recipe.max_drop, job.outcome.stages[-1].judged
    assert judged is not None, "every stage is judged"
    try:
        check_drop(judged, most)
    except GateError as error:
        raise GateError(f"{error}{curve_words(job.learned.curve, most)}") from error


def check_budget(job: Job) -> None:
    """Raise GateError where the artifact takes more than was asked, its whole interval; a HeadwayWarning where it takes much less.

    A recipe that holds a plan is made the same on every machine, so that its latency here is no verdict: the warning says what it is.
    """
    spec = next((p for p in job.given.recipe.passes if isinstance(p, FitSpec)), None)
    if spec is None:
        return
    taken = _measured(job, spec)
    if spec.flops is None and taken.got > taken.limit:  # other sessions may say otherwise
        _measure_again(job)
        taken = _measured(job, spec)
    if taken.got > taken.limit + taken.slack:
        message = f"{taken.words}: the artifact takes {taken.got / taken.limit - 1:.1%} more than was asked"
        if spec.plan is None:
            raise GateError(f"{message}. Ask for less, or run it again on an idle machine. Nothing was written")
        message += "; the plan of the recipe was made on another machine"
        warnings.warn(message, HeadwayWarning, stacklevel=2)
    elif taken.got < taken.limit * NEAR - taken.slack and spec.plan is None:
        warnings.warn(
            f"{taken.words}: the artifact takes {1 - taken.got / taken.limit:.1%} less than was asked; no plan that was tried lies "
            "nearer, or other passes of the recipe took the rest",
            HeadwayWarning,
            stacklevel=2,
        )


@dataclass(frozen=True)
class _Taken:
    """What the artifact takes and may take, in the budget's unit, how well that is known, and both in words."""

    got: float
    limit: float
    slack: float
    words: str


def _measure_again(job: Job) -> None:
    """Time the artifact twice more, in other sessions, and keep the median."""
    stage, stopwatch = job.outcome.stages[-1], job.given.stopwatch
    timings = [stage.timing, *(job.time(job.outcome.model)[0] for _ in range(2))]
    stage.timing = sorted(timings, key=lambda t: t.ratio)[1]
    stage.ms = stopwatch.source_ms * stage.timing.ratio
    job.keep_timing(job.outcome.model, stage.timing, stage.nbytes)


def _measured(job: Job, spec: FitSpec) -> _Taken:
    stopwatch, timing = job.given.stopwatch, job.outcome.stages[-1].timing
    if spec.flops is not None:
        length = stopwatch.workload.mean_tokens
        before, now = (a.flops_per_token(length) for a in (read_anatomy(job.source_model), job.anatomy))
        words = f"{spec.flops:g} of the operations were asked for, {now / before:.3f} are left"
        return _Taken(now, spec.flops * before, 0.0, words)
    got, limit = stopwatch.source_ms * timing.ratio, goal_ms(job, spec)
    slack = max(RESOLUTION_MS, min(stopwatch.source_ms * (timing.ratio - timing.low), _SLACK * limit))
    if spec.speedup:
        words = (
            f"{spec.speedup:g} times as fast was asked for, {1 / timing.ratio:.2f} ({1 / timing.high:.2f} to {1 / timing.low:.2f}) was "
            f"measured on {stopwatch.workload}"
        )
    else:
        words = f"{limit:g} ms were asked for, {got:.2f} measured on {stopwatch.workload}"
    return _Taken(got, limit, slack, words)


def at_other_lengths(job: Job) -> list[dict[str, Any]]:
    """Return the latency ratio to the source with its interval at the lengths of `headway bench`, for the manifest.

    Empty where the artifact's form of int8 has no kernels in ONNX Runtime on a CPU.
    """
    if is_quantized(job.outcome.model) and not job.times_int8:
        return []
    longest = job.encoder.info.max_length
    shapes = [(c.batch, c.length) for c in DEFAULT_CASES if c.length is not None and c.length <= longest]
    job.given.step("latency at other lengths", of=0)
    key = job.timing_key(job.outcome.model, shapes)
    known: list[dict[str, Any]] | None = job.given.work.known("timing", key)
    if known is not None:
        return known
    timings = job.given.stopwatch.time_at(job.outcome.model, shapes)
    found = [
        {"shape": list(shape), "latency_ratio": t.ratio, "interval": [t.low, t.high]}
        for shape, t in zip(shapes, timings, strict=True)
    ]
    if all(t.is_narrow for t in timings):  # else a busy machine's would stay
        job.given.work.keep_values("timing", key, found)
    return found
