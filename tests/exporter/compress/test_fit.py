"""Rounds that meet a budget, however wrong the table."""

import math

import pytest

from headway.exporter.compress import fit as fit_module
from headway.exporter.compress.evidence import Evidence
from headway.exporter.compress.fit import Tools, Unreachable, fit, follow, rounds_for
from headway.exporter.compress.latency_table import LatencyTable
from headway.exporter.compress.search import CutPlan
from headway.exporter.graph.anatomy import read_anatomy
from headway.exporter.graph.torch_graph import TorchGraph
from headway.exporter.targets.ort import target as ort

from tests.support.evidence import WORK, table


@pytest.mark.parametrize(("speedup", "rounds"), [(1.2, 1), (1.5, 1), (1.6, 2), (2.0, 2), (2.25, 2), (3.0, 3), (5.0, 4)])
def test_no_round_takes_more_than_a_third(speedup: float, rounds: int) -> None:
    assert rounds_for(1 / speedup) == rounds


def apply(whole, passes):
    made = whole.clone()
    for one in passes:
        one(made)
    return made


def measure(made) -> float:
    parts = [(b.attention, b.feed_forwards) for b in read_anatomy(made).blocks]
    costs = [
        (table().attention(a.heads) if a else 0.0) + sum(table().feed_forward(f.width) for f in fs) for a, fs in parts
    ]
    return 1.0 + sum(costs)


@pytest.mark.parametrize("rest", [0.0, 1.0, 3.0])
def test_a_wrong_table_costs_no_more_than_the_budget_asks(model, evidence: Evidence, rest: float) -> None:
    """A table that gives too much of the time to what cannot go had the search cut to four times the speed where two were asked."""
    true = table()
    wrong = LatencyTable(
        "ort",
        WORK,
        true.full,
        rest,
        *({n: c * (true.full - rest) / 6 for n, c in costs.items()} for costs in (true.heads, true.neurons)),
    )

    assert measure(model) == pytest.approx(true.full)
    tools = Tools(TorchGraph(model), [], wrong, 9, lambda _: evidence, apply, measure, lambda _: None, ort.SPEC)
    made, (plan,) = fit(model, tools, budget=3.5, rounds=[1])
    assert 0.95 * 3.5 <= measure(made) <= 3.5
    assert read_anatomy(made) and (plan.heads or plan.neurons)


@pytest.mark.parametrize("closest", [{1: 5.0, 2: 4.0}, {1: 4.0, 2: 5.0}, {1: 4.0, 2: 4.5, 3: math.inf}])
def test_of_budgets_that_were_missed_the_nearest_is_told(
    closest: dict[int, float], model, monkeypatch: pytest.MonkeyPatch
) -> None:
    def missed(_model: object, _tools: object, _budget: float, count: int, _seen: list) -> None:
        raise Unreachable(f"{count} rounds", closest[count])

    monkeypatch.setattr(fit_module, "_rounds", missed)
    with pytest.raises(Unreachable) as caught:
        fit(model, None, budget=3.0, rounds=list(closest))  # type: ignore[arg-type]
    assert caught.value.closest == 4.0


class Made(Tools):
    """Tools by which answers are as far as is said for the blocks and the neurons that are left."""

    def distance(self, model, batches) -> float:
        blocks = read_anatomy(model).blocks
        cut = sum(256 - f.width for b in blocks for f in b.feed_forwards) / 512
        return {2: 0.0, 1: self.source}[len(blocks)] + cut  # type: ignore[return-value]


@pytest.mark.parametrize(("block", "wins"), [(0.05, True), (0.9, False)])
def test_whole_blocks_go_where_that_costs_less(model, evidence: Evidence, block: float, wins: bool) -> None:
    """Dropping one of two blocks leaves four of seven: budgets that it meets alone, and with a cut behind it."""
    told: list = []
    tools = Made(
        block,  # type: ignore[arg-type]
        [],
        table(),
        9,
        lambda _: evidence,
        apply,
        measure,
        lambda _: None,
        ort.SPEC,
        built=lambda _model, plans, cost, off: told.append((len(plans), cost, off)),
    )
    made, plans = fit(model, tools, budget=4.0, rounds=[1], drop=True)
    assert bool(plans[0].blocks) == wins and len(read_anatomy(made).blocks) == (1 if wins else 2)
    assert measure(made) <= 4.0 and len(told) >= 2
    if wins:
        assert CutPlan.read(plans[0].written()).blocks == plans[0].blocks
    with_cut, plans = fit(model, tools, budget=3.4, rounds=[1], drop=True)
    assert measure(with_cut) <= 3.4 and bool(plans[0].blocks) == wins
    if wins:
        assert len(plans) == 2 and not plans[1].blocks


def test_a_plan_is_followed_as_it_was_made(model, evidence: Evidence) -> None:
    tools = Made(0.05, [], table(), 9, lambda _: evidence, apply, measure, lambda _: None, ort.SPEC)  # type: ignore[arg-type]
    made, plans = fit(model, tools, budget=3.4, rounds=[1], drop=True)
    again = follow(model, tools, [CutPlan.read(plan.written()) for plan in plans])
    assert measure(again) == measure(made)


def test_a_model_is_repaired_between_the_rounds_of_a_plan(model) -> None:
    """The next round is made of the repaired model, as when the plan was found; the last is repaired by a pass of its own."""
    left: list[int] = []

    def repair(made) -> None:
        left.append(len(read_anatomy(made).blocks))

    tools = Tools(TorchGraph(model), [], None, 9, None, apply, measure, repair, ort.SPEC)  # type: ignore[arg-type]
    plans = [CutPlan(neurons={(0, 0): list(range(128))}), CutPlan(blocks=[1])]
    (last,) = read_anatomy(follow(model, tools, plans)).blocks
    assert left == [2] and last.feed_forwards[0].width == 128


def test_a_model_whose_blocks_cannot_go_is_only_cut(model, evidence: Evidence, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(fit_module, "drop_order", lambda *_: iter(()))
    monkeypatch.setattr(fit_module, "_after_drop", lambda *_: pytest.fail("blocks were dropped"))
    tools = Made(0.05, [], table(), 9, lambda _: evidence, apply, measure, lambda _: None, ort.SPEC)  # type: ignore[arg-type]
    assert not fit(model, tools, budget=4.0, rounds=[1], drop=True)[1][0].blocks
