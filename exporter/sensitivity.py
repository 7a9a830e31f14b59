"""What rounding each group of matrices costs by itself, and which groups stay float so that no more is lost than allowed.

Imports torch.
"""

from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace
from typing import TypeVar

import onnx_ir as ir
import torch

from ..calibration.batches import Batch
from ..calibration.objective import distance_over
from ..calibration.observe import Observations
from .graph.torch_graph import TorchGraph
from .quantization import Group, Plan, quantized
from .recipe import Quantize

Made = TypeVar("Made")


@dataclass(frozen=True)
class Effect:
    """A group rounded alone: `error` is its distance from the float model by text (see `objective.distance`)."""

    group: Group
    error: float


def effects(
    model: ir.Model,
    chosen: Plan,
    seen: Observations,
    spec: Quantize,
    batches: Sequence[Batch],
    *,
    activations: str,
    signed: bool,
    on_group: Callable[[str], None] = lambda _: None,
) -> list[Effect]:
    """Rounds one group at a time, tables left float, and compares the outputs on the calibration text."""
    graph = TorchGraph(model)
    with torch.no_grad():
        wanted = [graph(b.feeds) for b in batches]
    texts = sum(len(b.rows) for b in batches)
    found = []
    for group in chosen.groups:
        on_group(group.name)
        made, _ = quantized(
            model, replace(chosen, groups=[group], tables=()), seen, spec, activations=activations, signed=signed
        )
        found.append(Effect(group, distance_over(TorchGraph(made), batches, wanted) / texts))
    return found


def mixed(
    chosen: Plan, found: Sequence[Effect], judge: Callable[[Plan], tuple[float, Made]], most: float
) -> tuple[Plan, Made] | None:
    """The plan that rounds the most work within `most` points, and what was made of it; None where even the last group costs more.

    `judge` makes what a plan says and tells how many points it loses.
    Groups go back to float in the order of error for each multiply-add saved, the dearest first; how many is found by
    bisection, since what is lost falls as more stay float.
    """
    order = [e.group for e in sorted(found, key=lambda e: e.error / e.group.cost, reverse=True)]

    def with_float(count: int) -> Plan:
        gone = order[:count]
        reason = "rounding it costs more than may be lost"
        left = chosen.left | {n: reason for g in gone for n in g.matrices}
        return replace(chosen, groups=[g for g in chosen.groups if g not in gone], left=left)

    drop, made = judge(chosen)
    if drop <= most:
        return chosen, made
    del made
    low, high, best = 0, len(order), None
    while low + 1 < high:
        middle = (low + high) // 2
        tried = with_float(middle)
        drop, made = judge(tried)
        if drop <= most:
            high, best = middle, (tried, made)
        else:
            low = middle
    return best
