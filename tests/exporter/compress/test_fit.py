"""Rounds that meet a budget, however wrong the table."""

import math

import pytest

from headway.exporter.compress import fit as fit_module
from headway.exporter.compress.evidence import Evidence
from headway.exporter.compress.fit import Tools, Unreachable, fit, rounds_for
from headway.exporter.compress.latency_table import LatencyTable
from headway.exporter.graph.anatomy import read_anatomy
from headway.exporter.graph.torch_graph import TorchGraph
from headway.exporter.targets.ort import target as ort

from tests.support.evidence import WORK, table


@pytest.mark.parametrize(("speedup", "rounds"), [(1.2, 1), (1.5, 1), (1.6, 2), (2.0, 2), (2.25, 2), (3.0, 3), (5.0, 4)])
def test_no_round_takes_more_than_a_third(speedup: float, rounds: int) -> None:
    assert rounds_for(1 / speedup) == rounds


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

    def apply(whole, passes):
        made = whole.clone()
        for one in passes:
            one(made)
        return made

    def measure(made) -> float:
        parts = [(b.attention, b.feed_forwards) for b in read_anatomy(made).blocks]
        costs = [
            (true.attention(a.heads) if a else 0.0) + sum(true.feed_forward(f.width) for f in fs) for a, fs in parts
        ]
        return 1.0 + sum(costs)

    assert measure(model) == pytest.approx(true.full)
    tools = Tools(TorchGraph(model), [], wrong, 9, lambda _: evidence, apply, measure, lambda _: None, ort.SPEC)
    made, (plan,) = fit(model, tools, budget=3.5, rounds=[1])
    assert 0.95 * 3.5 <= measure(made) <= 3.5
    assert read_anatomy(made) and (plan.heads or plan.neurons)


@pytest.mark.parametrize("closest", [{1: 5.0, 2: 4.0}, {1: 4.0, 2: 5.0}, {1: 4.0, 2: 4.5, 3: math.inf}])
def test_of_budgets_that_were_missed_the_nearest_is_told(
    closest: dict[int, float], model, monkeypatch: pytest.MonkeyPatch
) -> None:
    def missed(_model: object, _tools: object, _budget: float, count: int) -> None:
        raise Unreachable(f"{count} rounds", closest[count])

    monkeypatch.setattr(fit_module, "_rounds", missed)
    with pytest.raises(Unreachable) as caught:
        fit(model, None, budget=3.0, rounds=list(closest))  # type: ignore[arg-type]
    assert caught.value.closest == 4.0
