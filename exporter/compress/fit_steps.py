"""Make the pass that removes until a budget is met."""

from collections.abc import Callable

import numpy as np
import onnx_ir as ir

from ...errors import GateError
from ..graph.anatomy import Anatomy
from ..graph.torch_graph import TorchGraph
from ..passes.base import REPORT_LENGTH, PassReport
from ..recipe.pass_specs import FitSpec
from .apply import checked
from .evidence import sites
from .fit import Tools, Unreachable, fit, follow, rounds_for
from .job import Changes, Job
from .latency import LatencyTable, measure_table
from .saved_plans import read_plans
from .search import CutPlan


def fit_to_budget(job: Job, spec: FitSpec) -> Changes:
    """Remove in rounds until the budget is met; say what every part has become.

    A plan in the recipe is followed as it stands: nothing is searched or measured. Raises GateError with the closest that was built
    where the budget cannot be met.
    """
    before = job.anatomy
    if spec.plan is not None:
        job.outcome.model = follow(job.outcome.model, _tools(job), [CutPlan.read(r) for r in spec.plan])
    else:
        _search(job, spec)
    after = job.anatomy
    changes = _changes(before, after)
    flops = before.flops_per_token(REPORT_LENGTH), after.flops_per_token(REPORT_LENGTH)
    sizes = (before.parameters, after.parameters), (before.nbytes, after.nbytes)
    job.outcome.reports.append(PassReport("Fit", changes, *sizes, flops))
    return changes


def _search(job: Job, spec: FitSpec) -> None:
    tools, budget, share = _by_flops(job, spec.flops) if spec.flops is not None else _by_latency(job, spec)
    try:
        job.outcome.model, job.learned.plans = fit(
            job.outcome.model,
            tools,
            budget=budget,
            rounds=[spec.rounds] if spec.rounds else [1, rounds_for(min(share, 1.0))],
            plans=read_plans(job),
        )
    except Unreachable as error:
        raise GateError(_out_of_reach(job, spec, error)) from error
    job.outcome.decided["plan"] = [plan.written() for plan in job.learned.plans]


def _by_flops(job: Job, part: float) -> tuple[Tools, float, float]:
    """Return the tools, the budget in multiply-adds per token, and its part of the whole."""
    tools = _tools(job)
    return tools, part * job.anatomy.flops_per_token(tools.length) / 2, part


def _by_latency(job: Job, spec: FitSpec) -> tuple[Tools, float, float]:
    """Return the tools, the budget in milliseconds of the latency table, and its part of the whole."""
    given = job.given
    table = measure_table(job.outcome.model, given.stopwatch.workload, given.target.spec, on_level=given.step)
    job.learned.table = table
    now = job.outcome.stages[-1].ms
    scale = table.full / now
    goal = _goal(job, spec)
    return _tools(job, table, lambda model: job.time(model)[0] * scale), goal * scale, goal / now


def _tools(job: Job, table: LatencyTable | None = None, measure: Callable[[ir.Model], float] | None = None) -> Tools:
    given = job.given
    return Tools(
        source=TorchGraph(job.source_model),
        batches=job.batches,
        table=table,
        length=int(np.mean([tokens for _, tokens in given.stopwatch.workload.shapes])),
        learn=job.learn,
        apply=lambda model, passes: checked(model, passes, job.batches),
        measure=measure,
        spec=given.target.spec,
        step=given.step,
        scoring=given.scoring,
    )


def _goal(job: Job, spec: FitSpec) -> float:
    """Return the latency that is asked for, in milliseconds on the workload."""
    return job.given.stopwatch.source_ms / spec.speedup if spec.speedup else float(spec.latency_ms or 0)


def _out_of_reach(job: Job, spec: FitSpec, error: Unreachable) -> str:
    """Return the message where a budget cannot be met: the closest that was built, and what to ask for instead."""
    if spec.flops is not None:
        return f"{spec.flops:g} of the operations cannot be met: {error}"
    now, table, stopwatch = job.outcome.stages[-1].ms, job.learned.table, job.given.stopwatch
    assert table is not None
    closest = min(error.closest * now / table.full, now)
    return (
        f"the budget of {_goal(job, spec):.2f} ms cannot be met on {stopwatch.workload}: the fastest that was built takes "
        f"{closest:.2f} ms ({stopwatch.source_ms / closest:.2f} times as fast as the source); ask for that or less"
    )


def _changes(before: Anatomy, after: Anatomy) -> Changes:
    """Return each part that changed, in words; parts are found again by the name of their result."""
    left = {str(s.projection.output.name): s for s in sites(after)}
    changes = {}
    for site in sites(before):
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
