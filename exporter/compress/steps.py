"""Make the passes of a recipe one after the other, and measure what each gained.

`recipe.passes` has the table of passes. The function of a row takes the job and the row's spec, changes the model, and returns
what it changed in words.
"""

from collections.abc import Callable
from dataclasses import replace
from importlib import import_module
from typing import Any

from ...errors import UsageError
from ..recipe.passes import PASSES, PassBase
from .job import Changes, Job

_SAME = 0.98
"""A pass that leaves more than this part of the time saved nothing: the noise of a paired measurement."""


def run_pass(job: Job, spec: PassBase) -> None:
    """Make one pass of the recipe, and measure what it did. UsageError where it removes from a model that has no blocks."""
    entry, outcome = PASSES[spec.kind], job.outcome
    if spec.needs_blocks and not job.anatomy.blocks:
        raise UsageError(
            f"{spec.kind}: the model has no blocks of attention and feed-forward layers, and only those are cut: leave the pass out, and "
            "ask for `quantize` or `trim_vocabulary`"
        )
    before = outcome.stages[-1]
    job.given.step(spec.kind)
    saved = outcome.model.clone() if entry.undo_unless_faster else None
    outcome.decided = {}
    changes = function_of(entry.function)(job, spec)
    stage = job.measure(spec.kind, changes)
    smaller, faster = stage.nbytes < before.nbytes, stage.ms < _SAME * before.ms
    if spec.saves:
        # What changed nothing is not faster, whatever the clock says.
        stage.paid = bool(changes) and (smaller or faster)
    if saved is not None and not faster:
        outcome.model = saved
        stage = replace(before, name=spec.kind, changes=changes, paid=False, undone=True, seconds=0.0)
    else:
        outcome.passes.append(spec.model_copy(update=outcome.decided))
    if spec.role == "recover" and outcome.recovery is not None:
        stage.seconds = outcome.recovery.seconds
    outcome.stages.append(stage)


def function_of(place: str) -> Callable[[Job, Any], Changes]:
    """Return the function that "module:function" names."""
    module, _, name = place.partition(":")
    function: Callable[[Job, Any], Changes] = getattr(import_module(module), name)
    return function
