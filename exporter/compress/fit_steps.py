"""Make the pass that removes until a budget is met."""

from collections.abc import Callable, Sequence
from dataclasses import replace
from functools import partial
from typing import Any

import onnx_ir as ir

from ...calibration.batches import Batch, make_batches
from ...errors import GateError
from ..graph.anatomy import Anatomy, read_anatomy
from ..graph.torch_graph import TorchGraph
from ..passes.base import REPORT_LENGTH, PassReport
from ..recipe.pass_specs import FitSpec, RoundPlan
from .apply import checked
from .budget import as_deployed, goal_ms
from .built import Point
from .evidence import sites
from .fit import MOST, NEAR, Tools, Unreachable, fit, follow, rounds_for
from .job import Changes, Job
from .latency import measure_table
from .latency_table import LatencyTable
from .memory import learn, remember, repaired
from .samples import MOST_TOKENS
from .search import CutPlan
from .work import digest_of_batches, digest_of_model, key_of


def fit_to_budget(job: Job, spec: FitSpec) -> Changes:
    """Remove in rounds until the budget is met; say what every part has become.

    A plan in the recipe is followed as it stands: nothing is searched or measured. Raises GateError with the closest that was built
    where the budget cannot be met.
    """
    before = job.anatomy
    if spec.plan is not None:
        job.outcome.model = follow(job.outcome.model, _flops_tools(job), [CutPlan.read(r) for r in spec.plan])
    else:
        _search(job, spec)
    after = job.anatomy
    changes = what_was_cut(before, after)
    flops = before.flops_per_token(REPORT_LENGTH), after.flops_per_token(REPORT_LENGTH)
    sizes = (before.parameters, after.parameters), (before.nbytes, after.nbytes)
    job.outcome.reports.append(PassReport("Fit", changes, *sizes, flops))
    return changes


def _search(job: Job, spec: FitSpec) -> None:
    if spec.flops is not None:
        tools = _flops_tools(job)
        whole = tools.measure(job.outcome.model)
        budget = spec.flops * whole
    else:
        tools, whole, budget = _by_latency(job, spec)
    earlier = _Earlier(job, tools, whole)
    plans = earlier.within(budget) if spec.rounds is None else []
    if plans:
        job.outcome.model = follow(job.outcome.model, tools, plans)
    else:
        try:
            job.outcome.model, plans = fit(
                job.outcome.model,
                earlier.noted(tools),
                budget=budget,
                rounds=[spec.rounds] if spec.rounds else [1, rounds_for(min(budget / whole, 1.0))],
                drop=spec.rounds is None,
            )
        except Unreachable as error:
            raise GateError(_out_of_reach(job, spec, error, whole)) from error
    job.learned.plans = plans
    job.learned.curve = earlier.curve
    job.outcome.decided["plan"] = [plan.written() for plan in plans]


def _by_latency(job: Job, spec: FitSpec) -> tuple[Tools, float, float]:
    """Return the tools, what the whole model takes, and the budget, both in milliseconds of the latency table.

    The budget is the artifact's, and the passes behind this one may make it faster: each model is timed as they will leave it. The
    table is of models before those passes, so latencies are counted in its milliseconds.
    """
    given, model = job.given, job.outcome.model
    given.step("latency of the whole model", of=0)
    whole, _ = job.timed(as_deployed(job, model, spec))
    table = measure_table(model, given.stopwatch.workload, given.target.spec, on_level=given.step)
    job.learned.table = table
    scale = table.full / whole.ratio  # of latency ratios to the source

    def measure(candidate: ir.Model) -> float:
        return job.timed(as_deployed(job, candidate, spec))[0].ratio * scale

    return tools_for(job, table, measure), table.full, goal_ms(job, spec) / given.stopwatch.source_ms * scale


def _flops_tools(job: Job) -> Tools:
    length = job.given.stopwatch.workload.mean_tokens
    return tools_for(job, None, lambda model: read_anatomy(model).flops_per_token(length) / 2)


def tools_for(job: Job, table: LatencyTable | None, measure: Callable[[ir.Model], float]) -> Tools:
    """Return what a cut of the job's model works with; `measure` returns what a model takes, in units of `table`."""
    given = job.given
    return Tools(
        source=TorchGraph(job.source_model),
        batches=_compared_on(job),
        table=table,
        length=given.stopwatch.workload.mean_tokens,
        learn=partial(learn, job),
        apply=lambda model, passes: checked(model, passes, job.batches),
        measure=measure,
        repair=partial(repaired, job),
        spec=given.target.spec,
        step=given.step,
        scoring=given.scoring,
        remember=partial(remember, job),
    )


def _compared_on(job: Job) -> list[Batch]:
    """Return the texts to choose by as batches; the calibration data where a recipe leaves nothing to choose."""
    choice = job.given.choice
    if choice is None:
        return job.batches
    longest = job.encoder.info.max_length
    return make_batches(job.encoder, choice.texts, longest=longest, most_tokens=MOST_TOKENS, seed=job.given.seed)


class _Earlier:
    """Models that searches on the same data built, this one's among them: their plans, what they take, and what they lose.

    They are the curve that a failure shows. One that meets another budget is taken without a search.
    """

    def __init__(self, job: Job, tools: Tools, whole: float):
        self._job, self._whole = job, whole
        about = tools.table.digest if tools.table is not None else tools.length
        behind = [p.model_dump(mode="json") for p in job.given.recipe.passes if p.role in ("quantize", "store")]
        behind = behind if tools.table is not None else []  # operations are the same in all dtypes
        model = digest_of_model(job.outcome.model)
        compared = digest_of_batches(tools.batches)
        self._key = key_of(job.basis, compared, model, about, behind, job.given.target.spec.name)
        self._rows: list[dict[str, Any]] = job.given.work.known("fit", self._key) or []

    @property
    def curve(self) -> list[Point]:
        """What was built, the slowest first."""
        points = [Point(self._whole / row["cost"], row["drop"]) for row in self._rows]
        return sorted(points, key=lambda p: p.speedup)

    def within(self, budget: float) -> list[CutPlan]:
        """Return the plans of the model that loses least of those that take nearly all of a budget; none where there is none."""
        fitting = [row for row in self._rows if budget * NEAR <= row["cost"] <= budget * MOST]
        if not fitting:
            return []
        plans = min(fitting, key=lambda row: (row["off"], row["cost"]))["plans"]
        return [CutPlan.read(RoundPlan.model_validate(plan)) for plan in plans]

    def noted(self, tools: Tools) -> Tools:
        """Return tools that note what is built."""
        return replace(tools, built=self._note)

    def _note(self, model: ir.Model, plans: Sequence[CutPlan], cost: float, off: float) -> None:
        """Note a model with what it loses on the texts to choose by: a user chooses by the curve too, and the gate has other texts."""
        job = self._job
        written = [plan.written().model_dump(mode="json") for plan in plans]
        if job.given.choice is None or any(row["plans"] == written for row in self._rows):
            return
        drop = job.choice_drop(model)
        self._rows.append({"plans": written, "cost": cost, "off": off, "drop": drop})
        job.given.work.keep_values("fit", self._key, self._rows)


def _out_of_reach(job: Job, spec: FitSpec, error: Unreachable, whole: float) -> str:
    """Return the message where a budget cannot be met: the closest that was built, and what to ask for instead."""
    if spec.flops is not None:
        return f"{spec.flops:g} of the operations cannot be met: {error}"
    stopwatch = job.given.stopwatch
    now = stopwatch.source_ms * job.timed(as_deployed(job, job.outcome.model, spec))[0].ratio
    closest = min(error.closest * now / whole, now)
    return (
        f"the budget of {goal_ms(job, spec):.2f} ms cannot be met on {stopwatch.workload}: the fastest that was built takes "
        f"{closest:.2f} ms ({stopwatch.source_ms / closest:.2f} times as fast as the source); ask for that or less"
    )


def what_was_cut(before: Anatomy, after: Anatomy) -> Changes:
    """Return each part that changed, in words; parts are found again by the name of their result."""
    left = {str(s.projection.output.name): s for s in sites(after)}
    changes = {f"block {b}": "removed" for b in sorted(_gone(before, after))}
    for site in (s for s in sites(before) if f"block {s.block}" not in changes):
        now = left.get(str(site.projection.output.name))
        what = "heads" if site.is_attention else "neurons"
        where = f"block {site.block}" + (f" feed-forward {site.number}" if site.number else "")
        if now is None:
            changes[f"{where} {what}"] = "all removed"
        elif now.units != site.units:
            changes[f"{where} {what}"] = f"{site.units} → {now.units}"
        elif now.projection.rank != site.projection.rank:
            changes[f"{where} {'attention' if site.is_attention else 'feed-forward'}"] = f"rank {now.projection.rank}"
    return changes


def _gone(before: Anatomy, after: Anatomy) -> set[int]:
    """Return the blocks of which nothing is left, their norms included: what they gave, nothing gives any more."""
    there = {str(b.output.name) for b in after.blocks if b.output is not None}
    inside = {str(p.output.name) for b in after.blocks for p in b.projections}
    return {
        b.index
        for b in before.blocks
        if b.output is not None
        and str(b.output.name) not in there
        and not inside & {str(p.output.name) for p in b.projections}
    }
