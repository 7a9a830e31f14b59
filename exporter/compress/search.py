"""Choose what to remove: heads, neurons and ranks compete in one budget of measured latency (or of FLOPs).

Every attention and feed-forward has a list of options, each with its cost and its loss. Dynamic programming over the parts picks
those that lose least within the budget. Source: ZipLM (arXiv 2302.04089), section 3.2, over a measured table. The losses are
those of `calibration.removal`, on one scale for every part.
"""

from collections.abc import Callable, Collection, Mapping, Sequence
from dataclasses import dataclass, field
from functools import partial

import numpy as np
import onnx_ir as ir

from ...calibration.removal import Removal, removal_order
from ...errors import GateError
from ..graph.anatomy import Anatomy, Projection
from ..graph.edit import constant
from ..graph.ranks import break_even
from ..passes.base import StructuralPass
from ..passes.blocks import RemoveBlocks
from ..passes.heads import RemoveHeads
from ..passes.lowrank import SplitWeights, tail_energy
from ..passes.neurons import RemoveNeurons
from ..recipe.pass_specs import RoundPlan
from ..recipe.unit_ranges import from_ranges, to_ranges
from ..targets.base import TargetSpec
from .evidence import Evidence, Site, sites
from .latency import part_matrices
from .latency_table import LatencyTable

_STEPS = 4000
"""The budget is divided into so many steps; costs are rounded to whole steps."""


Remember = Callable[[str, Callable[[], Mapping[str, np.ndarray]]], Mapping[str, np.ndarray]]
"""Returns arrays by their name, or what the function makes, which it keeps under that name."""


@dataclass(frozen=True)
class Option:
    """One way to leave a part: with `keep` of its units, or with all of them and its weights split at `rank`."""

    cost: float
    loss: float
    keep: int
    rank: int | None = None


@dataclass
class Part:
    """Sites that are decided together: one, or all that share a weight."""

    sites: list[Site]
    removal: Removal
    options: list[Option]


@dataclass
class CutPlan:
    """What stays: heads by block, neurons by (block, number), ranks by weight; and the expected cost and loss of that.

    Where `blocks` go as a whole, nothing else does in the same round.
    """

    heads: dict[int, list[int]] = field(default_factory=dict)
    neurons: dict[tuple[int, int], list[int]] = field(default_factory=dict)
    ranks: dict[str, int] = field(default_factory=dict)
    cost: float = 0.0
    loss: float = 0.0
    blocks: list[int] = field(default_factory=list)

    def written(self) -> RoundPlan:
        """Return the plan as a recipe holds it."""
        return RoundPlan(
            heads={block: to_ranges(units) for block, units in self.heads.items()},
            neurons={f"{b}.{n}" if n else str(b): to_ranges(units) for (b, n), units in self.neurons.items()},
            ranks=self.ranks,
            blocks=self.blocks,
        )

    @classmethod
    def read(cls, written: RoundPlan) -> "CutPlan":
        """Return the plan that a recipe holds; its cost and loss are not known."""
        neurons = {}
        for where, units in written.neurons.items():
            block, _, number = where.partition(".")
            neurons[int(block), int(number or 0)] = from_ranges(units)
        heads = {block: from_ranges(units) for block, units in written.heads.items()}
        return cls(heads, neurons, dict(written.ranks), blocks=list(written.blocks))

    def passes(self, anatomy: Anatomy, evidence: Evidence | None) -> list[StructuralPass]:
        """Return the passes, in an order in which block numbers stay true.

        Removing a whole attention renumbers the blocks behind it. So does removing what was left of the first block, where its
        attention was removed in an earlier round.
        """
        if self.blocks:
            return [RemoveBlocks(self.blocks)]
        first = anatomy.blocks[0]
        leading = [self.neurons.get((0, number)) for number in range(len(first.feed_forwards))]
        gone = int(first.attention is None and all(units == [] for units in leading))
        passes: list[StructuralPass] = []
        if self.neurons:
            passes.append(RemoveNeurons(self.neurons))
        if self.ranks:
            inputs, outputs = split_moments(anatomy, evidence, self.ranks) if evidence else ({}, {})
            passes.append(SplitWeights(self.ranks, inputs, outputs))
        if self.heads:
            passes.append(RemoveHeads({block - gone: units for block, units in self.heads.items()}))
        return passes


def split_moments(
    anatomy: Anatomy, evidence: Evidence, names: Collection[str]
) -> tuple[dict[str, np.ndarray], dict[str, np.ndarray]]:
    """Return second moments of inputs and of output gradients by weight, summed over the uses of a shared weight."""
    inputs: dict[str, np.ndarray] = {}
    outputs: dict[str, np.ndarray] = {}
    for p in (p for b in anatomy.blocks for p in b.projections if p.weight in names):
        for into, moment in (
            (inputs, evidence.inputs[str(p.input.name)]),
            (outputs, evidence.outputs[str(p.output.name)]),
        ):
            into[p.weight] = into[p.weight] + moment if p.weight in into else moment
    return inputs, outputs


def find_parts(
    model: ir.Model,
    anatomy: Anatomy,
    evidence: Evidence,
    table: LatencyTable | None,
    spec: TargetSpec,
    *,
    length: int = 128,
    ranks: bool = True,
    kinds: Collection[str] = ("heads", "neurons"),
    remember: Remember = lambda _, make: make(),
) -> list[Part]:
    """Return all parts with their options. Costs are milliseconds of `table`, or multiply-adds per token at `length` without one.

    Weights that came factored are cut as others are: the table was measured on them, on average over blocks. Without `ranks` nothing is
    split: a table does not tell what a further cut of a part that is split here saves. Units go of `kinds` alone, "heads" and
    "neurons". `remember` returns the arrays that an earlier run computed from this model and evidence, by name.
    """
    parts = []
    for members in _groups(anatomy):
        first = members[0]
        removal = _remembered(model, members, evidence, remember)
        removable = all(
            ("heads" if s.is_attention else "neurons") in kinds and s.projection.in_features == s.units * s.unit
            for s in members
        )
        cost = partial(_table_cost, table) if table is not None else partial(_flops_cost, anatomy, length)
        options = [
            Option(len(members) * cost(first, keep), float(removal.loss[first.units - keep]), keep)
            for keep in _levels(first, spec)
            if removable or keep == first.units
        ]
        if ranks:
            options += _rank_options(model, anatomy, members, evidence, table, spec, options[-1], remember)
        parts.append(Part(members, removal, options))
    return parts


def removals(model: ir.Model, anatomy: Anatomy, evidence: Evidence) -> dict[str, Removal]:
    """Return the order in which each site's units go, by the site's name."""
    return {
        s.name: removal for group in _groups(anatomy) for removal in [_order(model, group, evidence)] for s in group
    }


def _groups(anatomy: Anatomy) -> list[list[Site]]:
    """Return the sites, those that share a weight together."""
    groups: dict[str, list[Site]] = {}
    for site in sites(anatomy):
        groups.setdefault(site.projection.weight, []).append(site)
    return list(groups.values())


def _order(model: ir.Model, members: Sequence[Site], evidence: Evidence) -> Removal:
    p = members[0].projection
    array = constant(model.graph.initializers[p.weight])
    assert array is not None
    if p.first is not None:
        first = constant(p.first.inputs[1])
        assert first is not None
        array = first @ array

    def mean(kind: Mapping[str, np.ndarray], name: Callable[[Projection], object]) -> np.ndarray:
        return np.mean([kind[str(name(s.projection))] for s in members], axis=0)

    shift = mean(evidence.mean, lambda p: p.input.name) if p.bias is not None else None
    return removal_order(
        array,
        mean(evidence.inputs, lambda p: p.input.name),
        shift,
        _square(mean(evidence.outputs, lambda p: p.output.name)),
        unit=members[0].unit,
    )


def _remembered(model: ir.Model, members: Sequence[Site], evidence: Evidence, remember: Remember) -> Removal:
    def make() -> Mapping[str, np.ndarray]:
        return vars(_order(model, members, evidence))

    return Removal(**remember(f"order {members[0].name}", make))


def _square(moment: np.ndarray) -> np.ndarray:
    return np.diag(moment) if moment.ndim == 1 else moment


def _levels(site: Site, spec: TargetSpec) -> list[int]:
    """Return numbers of units that may stay, ascending, all of them last. Of neurons about 64 multiples that pay on the target."""
    if site.is_attention:
        return list(range(site.units + 1))
    step = max(spec.neuron_multiple, site.units // 64 // spec.neuron_multiple * spec.neuron_multiple)
    return [*range(0, site.units, step), site.units]


def _table_cost(table: LatencyTable, site: Site, keep: int) -> float:
    return table.attention(keep) if site.is_attention else table.feed_forward(keep)


def _flops_cost(anatomy: Anatomy, length: int, site: Site, keep: int) -> float:
    if not keep:
        return 0.0
    block, share = anatomy.blocks[site.block], keep / site.units
    if site.number is None:
        assert block.attention is not None
        a = block.attention
        into = sum(_cut_cost(p, p.in_features, share) for p in {p.node: p for p in (a.q, a.k, a.v)}.values())
        return into + _cut_cost(a.o, a.o.out_features, share) + 2 * length * a.heads * a.head_dim * share
    forward = block.feed_forwards[site.number]
    down = forward.down.node
    return sum(_cut_cost(p, p.out_features if p.node is down else p.in_features, share) for p in forward.projections)


def _cut_cost(projection: Projection, whole: int, share: float) -> float:
    """Return the multiply-adds of a projection of which `share` of one side stays, and the `whole` of the other."""
    if projection.rank is None:
        return projection.multiplications * share
    cut = projection.in_features + projection.out_features - whole
    return projection.rank * (whole + cut * share)


def _rank_options(
    model: ir.Model,
    anatomy: Anatomy,
    members: Sequence[Site],
    evidence: Evidence,
    table: LatencyTable | None,
    spec: TargetSpec,
    uncut: Option,
    remember: Remember,
) -> list[Option]:
    """Return options that split every weight of the part at one rank, where that was measured to be faster than no split."""
    first = members[0]
    matrices = part_matrices(anatomy, first.block, attention=first.is_attention, number=first.number or 0)
    limit = min((break_even(rows, columns) for _, rows, columns in matrices), default=0)
    if table is not None:
        costs = table.attention_rank if first.is_attention else table.neuron_rank
        faster = {r: len(members) * c for r, c in costs.items() if r <= limit and len(members) * c < 0.98 * uncut.cost}
    else:
        work = {n: r * c for n, r, c in matrices}
        sizes = {n: r + c for n, r, c in matrices}
        saved = {
            r: sum(work.values()) - r * sum(sizes.values())
            for r in range(spec.rank_multiple, limit + 1, spec.rank_multiple)
        }
        faster = {r: uncut.cost - len(members) * s for r, s in saved.items() if s > 0}
    if not faster:
        return []
    names = [n for n, _, _ in matrices]
    inputs, outputs = split_moments(anatomy, evidence, names)
    energies = []
    for name in names:
        weight = constant(model.graph.initializers[name])
        assert weight is not None
        made = partial(_energy, weight, inputs[name], outputs[name])
        energies.append(remember(f"energy {name}", made)["energy"])
    return [Option(cost, float(sum(e[r] for e in energies)), first.units, r) for r, cost in faster.items()]


def _energy(weight: np.ndarray, inputs: np.ndarray, outputs: np.ndarray) -> dict[str, np.ndarray]:
    return {"energy": tail_energy(weight, inputs=inputs, outputs=outputs)}


def choose(parts: Sequence[Part], anatomy: Anatomy, budget: float) -> CutPlan:
    """Return the options that lose least while their costs sum to at most `budget`. GateError with the least cost where none fit."""
    least = sum(min(o.cost for o in p.options) for p in parts)
    if budget < least or budget <= 0:
        raise GateError(f"even with everything removed that can be, {least:.4g} of {budget:.4g} would be needed")
    best = np.zeros(_STEPS + 1)
    picks = []
    for part in parts:
        losses = np.full(_STEPS + 1, np.inf)
        pick = np.zeros(_STEPS + 1, np.int64)
        for i, option in enumerate(part.options):
            steps = round(option.cost / budget * _STEPS)
            if steps > _STEPS:
                continue
            total = best[: _STEPS + 1 - steps] + option.loss
            better = total < losses[steps:]
            losses[steps:][better] = total[better]
            pick[steps:][better] = i
        best = losses
        picks.append(pick)
    if not np.isfinite(best[-1]):
        raise GateError(f"no choice of heads, neurons and ranks fits; the least cost is {least:.4g} of {budget:.4g}")
    plan, left = CutPlan(loss=float(best[-1])), _STEPS
    for part, pick in zip(reversed(parts), reversed(picks), strict=True):
        option = part.options[int(pick[left])]
        left -= round(option.cost / budget * _STEPS)
        plan.cost += option.cost
        _note(plan, part, option, anatomy)
    return plan


def _note(plan: CutPlan, part: Part, option: Option, anatomy: Anatomy) -> None:
    for site in part.sites:
        if option.rank is not None:
            matrices = part_matrices(anatomy, site.block, attention=site.is_attention, number=site.number or 0)
            plan.ranks |= {name: option.rank for name, _, _ in matrices}
        elif option.keep < site.units and site.number is None:
            plan.heads[site.block] = part.removal.kept(option.keep)
        elif option.keep < site.units and site.number is not None:
            plan.neurons[site.block, site.number] = part.removal.kept(option.keep)
