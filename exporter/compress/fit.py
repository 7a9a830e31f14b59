"""Make a model meet a budget in rounds: learn what matters, search, remove, repair, and learn again. Imports torch.

What matters changes as a model shrinks. A sentence encoder at three times the speed keeps far more quality where it is cut in rounds
with a repair between them. A classifier may keep more in a single cut, which alone can choose ranks for every part. So both are
tried, and the model whose answers are nearer to the source's is kept.

The model of the last round is built and timed. Where it is too slow, the search runs again with a tighter budget; where it is faster
than it has to be, with a looser one. Source: ZipLM (arXiv 2302.04089), section 4.1, gradual setting, without its training
between rounds.
"""

import math
from collections.abc import Callable, Sequence
from dataclasses import dataclass

import onnx_ir as ir

from ...calibration.batches import Batch
from ...calibration.objective import distance_over
from ...errors import GateError
from ...tasks import Scoring
from ..graph.anatomy import Anatomy, read_anatomy
from ..graph.torch_graph import TorchGraph
from ..passes.base import StructuralPass
from ..targets.base import TargetSpec
from .evidence import Evidence
from .latency import LatencyTable
from .repair import repair
from .search import CutPlan, Part, choose, find_parts

_TRIES = 6
_PER_ROUND = 1.5
"""Each round removes at most so much that the work becomes this many times less."""

_SLACK = 1.005
"""A latency within this factor of the wanted one meets it: the noise of a paired median."""

_NEAR = 0.97
"""A model that needs less than this part of the wanted latency was cut more than it had to be."""


@dataclass(frozen=True)
class Tools:
    """What the rounds work with: calibration `batches`, the `source` to come near to, and functions that learn, cut and time.

    `measure` returns a model's latency in the table's units. `table` and `measure` are None where FLOPs are the budget, counted as
    multiply-adds per token of sequences of `length` tokens.
    """

    source: TorchGraph
    batches: Sequence[Batch]
    table: LatencyTable | None
    length: int
    learn: Callable[[ir.Model], Evidence]
    apply: Callable[[ir.Model, Sequence[StructuralPass]], ir.Model]
    measure: Callable[[ir.Model], float] | None
    spec: TargetSpec
    step: Callable[..., None] = lambda *_, **__: None
    scoring: Scoring | None = None


def rounds_for(share: float) -> int:
    """Return how many rounds a budget of `share` of the whole takes."""
    return max(1, math.ceil(math.log(1 / share) / math.log(_PER_ROUND) - 0.01))


def fit(
    model: ir.Model, tools: Tools, *, budget: float, rounds: Sequence[int], plans: Sequence[CutPlan] = ()
) -> tuple[ir.Model, list[CutPlan]]:
    """Return a model within `budget`, and the plan of each round; `model` itself is not changed.

    Several numbers of `rounds` are tried; the model is kept that answers nearest to the source once it is repaired. `budget` is for
    the whole model: milliseconds of the table, or multiply-adds per token where there is none. `plans` of an earlier run are
    followed instead of searching. Raises Unreachable where the budget cannot be met.
    """
    if plans:
        return follow(model, tools, plans), list(plans)
    best: tuple[float, ir.Model, list[CutPlan]] | None = None
    failure: Unreachable | None = None
    for count in sorted(set(rounds)):
        try:
            candidate, followed = _rounds(model, tools, budget, count)
        except Unreachable as error:
            failure = error if failure is None or error.closest < failure.closest else failure
            continue
        if len(set(rounds)) == 1:
            return candidate, followed
        repaired = candidate.clone()
        _repair(repaired, tools)
        off = distance_over(
            TorchGraph(repaired), tools.batches, (tools.source(b.feeds) for b in tools.batches), tools.scoring
        )
        if best is None or off < best[0]:
            best = off, candidate, followed
    if best is None:
        assert failure is not None
        raise failure
    return best[1], best[2]


def _repair(model: ir.Model, tools: Tools) -> None:
    repair(tools.source, model, tools.batches, on_site=lambda name: tools.step(f"repair, {name}", of=0))


def follow(model: ir.Model, tools: Tools, plans: Sequence[CutPlan]) -> ir.Model:
    """Return a copy of the model cut as the plans of an earlier run say, with a repair between one and the next."""
    for number, plan in enumerate(plans, 1):
        tools.step(f"fit to the budget, round {number} of {len(plans)}", of=len(plans), at=number - 1)
        anatomy, evidence = read_anatomy(model), tools.learn(model)
        model = tools.apply(model, plan.passes(anatomy, evidence))
        del anatomy, evidence  # as in `_rounds`
        if number < len(plans):
            _repair(model, tools)
    return model


def _rounds(model: ir.Model, tools: Tools, budget: float, rounds: int) -> tuple[ir.Model, list[CutPlan]]:
    """Do as `fit` does, in exactly so many rounds. Early rounds split nothing: a split part cannot be cut further."""
    table, length = tools.table, tools.length
    total = table.full if table is not None else read_anatomy(model).flops_per_token(length) / 2
    followed: list[CutPlan] = []
    for number in range(1, rounds + 1):
        last = number == rounds
        tools.step(f"fit to the budget, round {number} of {rounds}", of=rounds, at=number - 1)
        anatomy = read_anatomy(model)
        if not any(block.projections for block in anatomy.blocks):
            raise Unreachable("nothing is left to remove", math.inf)
        evidence = tools.learn(model)
        parts = find_parts(model, anatomy, evidence, table, tools.spec, length=length, ranks=last)
        wanted = total * (budget / total) ** (number / rounds)
        model, plan = _one_round(model, anatomy, evidence, parts, wanted, tools, exact=last)
        followed.append(plan)
        del anatomy, evidence, parts  # as large as the weights and more: gone before the next round's are collected
        if not last:
            _repair(model, tools)
    return model, followed


def _one_round(
    model: ir.Model,
    anatomy: Anatomy,
    evidence: Evidence,
    parts: Sequence[Part],
    wanted: float,
    tools: Tools,
    *,
    exact: bool,
) -> tuple[ir.Model, CutPlan]:
    """Return the model of one round, cut to a plan within `wanted`, and the plan.

    Where `exact`, the model is measured, since the table may be wrong either way. A plan that turns out too slow is drawn
    again with a tighter budget, one that is faster than it has to be with a looser one.
    """
    budget = wanted - (tools.table.rest if tools.table is not None else _rest(anatomy, parts, tools.length))
    low, high, closest = -math.inf, math.inf, math.inf
    met: tuple[ir.Model, CutPlan] | None = None
    for _ in range(_TRIES):
        try:
            plan = choose(parts, anatomy, budget)
        except GateError as error:
            if met is not None:
                break
            raise Unreachable(str(error), closest) from error
        if met is not None and plan.loss >= met[1].loss:
            break
        candidate = tools.apply(model, plan.passes(anatomy, evidence))
        if tools.measure is None or not exact:
            return candidate, plan
        tools.step("measure", of=0)
        measured = tools.measure(candidate)
        closest = min(closest, measured)
        if measured <= wanted * _SLACK:
            met, low = (candidate, plan), budget
            if measured >= wanted * _NEAR:
                break
            budget += wanted - measured
        else:
            high = budget
            budget -= (measured - wanted) + 0.002 * wanted
        if not low < budget < high:
            budget = (low + high) / 2
    if met is None:
        raise Unreachable(f"not met in {_TRIES} searches", closest)
    return met


def _rest(anatomy: Anatomy, parts: Sequence[Part], length: int) -> float:
    """Return the multiply-adds per token of all but the parts."""
    return anatomy.flops_per_token(length) / 2 - sum(max(o.cost for o in p.options if o.rank is None) for p in parts)


class Unreachable(GateError):
    """A budget that cannot be met. `closest` is the least that was built, infinite where nothing was."""

    def __init__(self, message: str, closest: float):
        super().__init__(message)
        self.closest = closest
