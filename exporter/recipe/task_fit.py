"""Fit a recipe to the task of its source: what a target's own code would misread is refused, and padding that counts is kept."""

from ...errors import UsageError
from .recipe import Recipe
from .targets import TARGETS

_IN_PYTHON = ("sparse-embedding", "multi-vector")
"""Tasks whose answers only a bundle in Python reads so far."""

_READS_PADDING = ("multi-vector",)
"""Tasks for which vectors at masked tokens may be answers, as those that a query is filled up with."""


def fitted_to_task(recipe: Recipe, task: str) -> Recipe:
    """Return a recipe whose artifact answers as a task is read: without packed tokens where padding may count.

    UsageError where a target's own code would not read the answers, or where packed tokens were asked for.
    """
    device = TARGETS[recipe.target].device
    if task in _IN_PYTHON and device in ("phone", "browser"):
        raise UsageError(
            f"target {recipe.target}: the code for a {device} reads no answers of {task} so far, and would take them for others: choose "
            "ort, or a target for GPUs"
        )
    if task not in _READS_PADDING or recipe.kernels == "stock":
        return recipe
    if recipe.kernels == "custom":
        raise UsageError(
            f"kernels: custom leaves padding out, and a {task} model may read it: leave `kernels` (--kernels) out"
        )
    return recipe.model_copy(update={"kernels": "stock"})
