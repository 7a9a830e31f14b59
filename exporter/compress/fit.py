"""Make a model meet a budget in rounds: learn what matters, search, remove, repair, and learn again. Imports torch.

What matters changes as a model shrinks. A sentence encoder at three times the speed keeps far more quality where it is cut in rounds
with a repair between them. A classifier may keep more in a single cut, which alone can choose ranks for every part. A deep encoder may
keep more where whole blocks go first. So all are tried, and the model whose answers are nearer to the source's is kept.

The model of the last round is built and timed. Where it is too slow, the search runs again with a tighter budget; where it is faster
than it has to be, with a looser one. Source: ZipLM (arXiv 2302.04089), section 4.1, gradual setting, without its training
between rounds.
"""

import math
from collections.abc import Callable, Collection, Iterator, Sequence
from dataclasses import dataclass, field

import numpy as np
import onnx_ir as ir

from ...calibration.batches import Batch
from ...calibration.objective import disagreement_over
from ...errors import GateError
from ...tasks import Scoring
from ..graph.anatomy import Anatomy, read_anatomy
from ..graph.torch_graph import TorchGraph
from ..passes.base import StructuralPass
from ..passes.blocks import RemoveBlocks
from ..targets.base import TargetSpec
from .drop import drop_order
from .evidence import Evidence
from .latency_table import LatencyTable
from .search import CutPlan, Part, Remember, choose, find_parts

_TRIES = 12
_PER_ROUND = 1.5
"""Each round removes at most so much that the work becomes this many times less."""

NEAR = 0.97
"""A model that needs less than this part of the budget was cut more than it had to be."""

MOST = 0.99
"""A search takes no more than this part of the budget: sessions of one model differ by about so much."""

_AIM = (MOST + NEAR) / 2


@dataclass(frozen=True)
class Tools:
    """What the rounds work with: texts, the source to come near to, and functions that learn, cut, repair and time.

    Models are compared with the `source` on `batches`. No model learned from those: a repair that follows its calibration data too
    closely would look better on them than it is.

    `measure` returns what a model takes of the budget: its latency in the table's units, or multiply-adds per token of sequences of
    `length` tokens where the table is None. `repair` refits a model's weights in place. `remember` returns arrays that an earlier run
    computed from the same model. `built` is told each model that was built and repaired, its plans, what it takes, and how far its
    answers are. Of what a plan can cut, only `kinds` go.
    """

    source: TorchGraph
    batches: Sequence[Batch]
    table: LatencyTable | None
    length: int
    learn: Callable[[ir.Model], Evidence]
    apply: Callable[[ir.Model, Sequence[StructuralPass]], ir.Model]
    measure: Callable[[ir.Model], float]
    repair: Callable[[ir.Model], object]
    spec: TargetSpec
    step: Callable[..., None] = lambda *_, **__: None
    scoring: Scoring | None = None
    remember: Callable[[ir.Model], Remember] = lambda _: lambda _, make: make()
    built: Callable[[ir.Model, Sequence[CutPlan], float, float], None] = lambda *_: None
    kinds: Collection[str] = ("heads", "neurons", "ranks")

    def distance(self, model: ir.Model, batches: Sequence[Batch]) -> float:
        """Return how far a model's answers on batches are from the source's."""
        return disagreement_over(TorchGraph(model), batches, (self.source(b.feeds) for b in batches), self.scoring)

    def taken_by_whole(self, model: ir.Model) -> float:
        """Return what the uncut model takes of the budget: what the table says, or what is counted."""
        return self.table.full if self.table is not None else self.measure(model)


@dataclass(frozen=True)
class Candidate:
    """A model within the budget, not repaired yet: its plans, and what it takes of the budget."""

    model: ir.Model
    plans: list[CutPlan]
    cost: float


def rounds_for(share: float) -> int:
    """Return how many rounds a budget of `share` of the whole takes."""
    return max(1, math.ceil(math.log(1 / share) / math.log(_PER_ROUND) - 0.01))


def fit(
    model: ir.Model, tools: Tools, *, budget: float, rounds: Sequence[int], drop: bool = False
) -> tuple[ir.Model, list[CutPlan]]:
    """Return a model within `budget`, and the plan of each round; `model` itself is not changed.

    Several numbers of `rounds` are tried, and with `drop` whole blocks before them; the model is kept that answers nearest to the
    source once it is repaired. `budget` is for the whole model: milliseconds of the table, or multiply-adds per token where there is
    none. Raises Unreachable where the budget cannot be met.
    """
    best = _Best()
    failure: Unreachable | None = None
    for attempt in _attempts(model, tools, budget, rounds, drop, best):
        try:
            candidate = attempt()
        except Unreachable as error:
            failure = error if failure is None or error.closest < failure.closest else failure
            continue
        if candidate is None:
            continue
        if len(set(rounds)) == 1 and not drop:
            return candidate.model, candidate.plans
        repaired = candidate.model.clone()
        tools.repair(repaired)
        best.take(candidate, _note(repaired, tools, candidate.plans, candidate.cost))
    if best.candidate is None:
        assert failure is not None
        raise failure
    return best.candidate.model, best.candidate.plans


@dataclass
class _Best:
    """The candidate whose answers are nearest to the source's, and how far they are; `seen` are (cost, distance) of all that was cut."""

    candidate: Candidate | None = None
    off: float = math.inf
    seen: list[tuple[float, float]] = field(default_factory=list)

    def take(self, candidate: Candidate, off: float) -> None:
        self.seen.append((candidate.cost, off))
        if off < self.off:
            self.candidate, self.off = candidate, off

    def expected(self, cost: float, whole: float) -> float:
        """Return how far a cut model that takes so much would be, on lines between those that were seen and the `whole` model."""
        points = sorted([*self.seen, (whole, 0.0)])
        return float(np.interp(cost, [p[0] for p in points], [p[1] for p in points])) if self.seen else math.inf


def _attempts(
    model: ir.Model,
    tools: Tools,
    budget: float,
    rounds: Sequence[int],
    drop: bool,
    best: _Best,
) -> Iterator[Callable[[], Candidate | None]]:
    """Yield ways to meet the budget, each as a function that builds a model. `best` is that of the ways before."""
    for count in sorted(set(rounds)):
        yield lambda count=count: _rounds(model, tools, budget, count, best.seen)  # type: ignore[misc]
    if not drop:
        return
    tools.step("which blocks matter least", of=0)
    order: list[int] = []
    for block in drop_order(model, tools.distance, tools.batches):
        order.append(block)
        if tools.measure(tools.apply(model, [RemoveBlocks(sorted(order))])) <= budget:
            break
    # One, all that the budget asks for, all but one of them, and half of them.
    counts = {1, (len(order) + 1) // 2, len(order) - 1, len(order)}
    for count in sorted(counts & set(range(1, len(order) + 1))):
        yield lambda count=count: _after_drop(model, tools, budget, order[:count], best)  # type: ignore[misc]


def _after_drop(model: ir.Model, tools: Tools, budget: float, blocks: Sequence[int], best: _Best) -> Candidate | None:
    """Remove whole blocks, then meet the budget as `_rounds` does. None where cuts as large lose less than those blocks."""
    plan = CutPlan(blocks=sorted(blocks))
    dropped = tools.apply(model, [RemoveBlocks(plan.blocks)])
    cost = tools.measure(dropped)
    repaired = dropped.clone()
    tools.repair(repaired)
    if _note(repaired, tools, [plan], cost) >= best.expected(cost, tools.taken_by_whole(model)):
        return None
    if budget * NEAR <= cost <= budget * MOST:
        return Candidate(dropped, [plan], cost)
    if cost <= budget * MOST:  # blocks are too coarse: fewer of them, and a cut, are tried too
        return None
    rest = _rounds(repaired, tools, budget, rounds_for(min(budget / cost, 1.0)), best.seen, total=cost)
    return Candidate(rest.model, [plan, *rest.plans], rest.cost)


def follow(model: ir.Model, tools: Tools, plans: Sequence[CutPlan]) -> ir.Model:
    """Return a copy of the model cut as the plans of an earlier run say, with a repair between one and the next."""
    for number, plan in enumerate(plans, 1):
        tools.step(f"fit to the budget, round {number} of {len(plans)}", of=len(plans), at=number - 1)
        anatomy = read_anatomy(model)
        evidence = tools.learn(model) if plan.ranks else None
        model = tools.apply(model, plan.passes(anatomy, evidence))
        del anatomy, evidence  # as in `_rounds`
        if number < len(plans):
            tools.repair(model)
    return model


def _note(model: ir.Model, tools: Tools, plans: Sequence[CutPlan], cost: float) -> float:
    """Tell `tools.built` of a repaired model, and return how far its answers are from the source's."""
    off = tools.distance(model, tools.batches)
    tools.built(model, plans, cost, off)
    return off


def _rounds(
    model: ir.Model,
    tools: Tools,
    budget: float,
    rounds: int,
    seen: list[tuple[float, float]],
    total: float | None = None,
) -> Candidate:
    """Meet the budget in exactly so many rounds. Early rounds split nothing: a split part cannot be cut further.

    `total` is what `model` takes; where it is not given, what the table says, or the model's multiply-adds. What a model takes after
    each round but the last, and how far its answers are, comes into `seen`.
    """
    table, length = tools.table, tools.length
    total = total or tools.taken_by_whole(model)
    followed: list[CutPlan] = []
    cost = total
    for number in range(1, rounds + 1):
        last = number == rounds
        tools.step(f"fit to the budget, round {number} of {rounds}", of=rounds, at=number - 1)
        anatomy = read_anatomy(model)
        if not any(block.projections for block in anatomy.blocks):
            raise Unreachable("nothing is left to remove", math.inf)
        evidence = tools.learn(model)
        remember = tools.remember(model)
        parts = find_parts(
            model,
            anatomy,
            evidence,
            table,
            tools.spec,
            length=length,
            ranks=last and "ranks" in tools.kinds,
            kinds=tools.kinds,
            remember=remember,
        )
        wanted = total * (budget / total) ** (number / rounds)
        model, plan, cost = _one_round(model, anatomy, evidence, parts, wanted, tools, exact=last)
        followed.append(plan)
        del anatomy, evidence, parts  # as large as the weights and more: gone before the next round's are collected
        if not last:
            tools.repair(model)
            seen.append((cost, _note(model, tools, followed, cost)))
    return Candidate(model, followed, cost)


def _one_round(
    model: ir.Model,
    anatomy: Anatomy,
    evidence: Evidence,
    parts: Sequence[Part],
    wanted: float,
    tools: Tools,
    *,
    exact: bool,
) -> tuple[ir.Model, CutPlan, float]:
    """Return the model of one round, cut to a plan within `wanted`, the plan, and what the model takes.

    Where `exact`, plans are searched until one takes nearly all of `wanted`, since the table may be wrong either way: a plan that
    turns out too slow is drawn again with a tighter budget, one that is faster than it has to be with a looser one.
    """
    budget = wanted - (tools.table.rest if tools.table is not None else _rest(anatomy, parts, tools.length))
    low, high, closest = -math.inf, math.inf, math.inf
    met: tuple[ir.Model, CutPlan, float] | None = None
    for _ in range(_TRIES):
        try:
            plan = choose(parts, anatomy, budget)
        except GateError as error:
            if met is not None:
                break
            raise Unreachable(str(error), closest) from error
        if met is not None and plan.loss >= met[1].loss:
            break  # a looser budget buys nothing back
        candidate = tools.apply(model, plan.passes(anatomy, evidence))
        tools.step("measure", of=0)
        measured = tools.measure(candidate)
        if not exact:
            return candidate, plan, measured
        closest = min(closest, measured)
        if measured <= wanted * MOST:
            met, low = (candidate, plan, measured), budget
            if measured >= wanted * NEAR:
                break
        else:
            high = budget
        budget += wanted * _AIM - measured
        if not low < budget < high:
            budget = (low + high) / 2 if math.isfinite(low + high) else budget
        if high - low < (1 - NEAR) * wanted / 4:
            break  # between the last that was too slow and the last that was not there is nothing
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
