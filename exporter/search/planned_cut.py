"""Cut a trial's model to its budget by the latency table alone, so that equal trials cut alike. Imports torch.

Nothing is built or timed here. The table may be wrong by some percent: what the cut model really takes is measured once it may reach the
front. Plans are kept by content, and so is what they learn, so that a cut made once serves all trials behind it.
"""

import math
from collections.abc import Sequence
from dataclasses import replace

import onnx_ir as ir

from ...errors import GateError
from ..compress.fit import Tools, Unreachable, fit, follow, rounds_for
from ..compress.fit_steps import tools_for, what_was_cut
from ..compress.job import Changes, Job
from ..compress.latency_table import LatencyTable
from ..compress.search import CutPlan
from ..compress.work import digest_of_batches, digest_of_model, key_of
from ..graph.anatomy import read_anatomy
from ..recipe.pass_specs import FitSpec, RoundPlan
from .predict import predicted_ms
from .trial_settings import TrialSettings

_DIGITS = 4


def cut_by_table(job: Job, settings: TrialSettings, table: LatencyTable) -> tuple[FitSpec, Changes]:
    """Cut the job's model; return the pass that cuts it so again, and what it changed.

    The pass holds the plan, and as its budget the operations that stay, since those are the same on any machine.

    Raises GateError where the budget cannot be met.
    """
    before = job.anatomy
    tools = _tools(job, settings, table)
    plans = _plans(job, settings, table, tools)
    job.outcome.model = follow(job.outcome.model, tools, plans)
    job.learned.plans, job.learned.table = plans, table
    length = tools.length
    share = job.anatomy.flops_per_token(length) / before.flops_per_token(length)
    most = math.ceil(share * 10**_DIGITS) / 10**_DIGITS
    made = FitSpec(flops=min(most, 1 - 10**-_DIGITS), plan=[plan.written() for plan in plans])
    return made, what_was_cut(before, job.anatomy)


def _tools(job: Job, settings: TrialSettings, table: LatencyTable) -> Tools:
    """Return what the cut works with; models take what the table says, which its plans are made by too."""
    return replace(tools_for(job, table, lambda model: predicted_ms(table, model)), kinds=settings.cut)


def _plans(job: Job, settings: TrialSettings, table: LatencyTable, tools: Tools) -> list[CutPlan]:
    """Return the plans of a budget, as an earlier trial made them or made now."""
    model = job.outcome.model
    asked = [settings.speedup, sorted(settings.cut), settings.rounds]
    key = key_of(
        job.basis,
        digest_of_batches(tools.batches),
        digest_of_model(model),
        table.digest,
        asked,
        job.given.target.spec.name,
    )

    def make() -> list[dict[str, object]]:
        return [plan.written().model_dump(mode="json") for plan in _fit(model, settings, table, tools)]

    return [CutPlan.read(RoundPlan.model_validate(plan)) for plan in job.given.work.values("cut", key, make)]


def _fit(model: ir.Model, settings: TrialSettings, table: LatencyTable, tools: Tools) -> Sequence[CutPlan]:
    if not any(block.projections for block in read_anatomy(model).blocks):
        raise GateError("there are no blocks to cut")
    rounds = 1 if settings.rounds == "one" else rounds_for(1 / settings.speedup)
    try:
        return fit(model, tools, budget=table.full / settings.speedup, rounds=[rounds], drop="blocks" in settings.cut)[
            1
        ]
    except Unreachable as error:
        what = ", ".join(settings.cut) or "nothing"
        raise GateError(f"a budget of {settings.speedup:g} × cannot be met by removing {what}: {error}") from error
