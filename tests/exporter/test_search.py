"""Search and latency table: exact choices, budgets that cannot be met, costs that never fall as levels rise."""

import time
from itertools import product
from pathlib import Path
from types import SimpleNamespace

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from headway.calibration.removal import Removal
from headway.errors import GateError
from headway.exporter.compress import latency
from headway.exporter.compress.evidence import Evidence, collect, sites
from headway.exporter.compress.fit import Tools, fit, rounds_for
from headway.exporter.compress.latency import LatencyTable, Workload, measure_table, paired_times, part_matrices
from headway.exporter.compress.search import CutPlan, Option, Part, choose, find_parts
from headway.exporter.graph.anatomy import Anatomy, read_anatomy
from headway.exporter.graph.torch_graph import TorchGraph
from headway.exporter.passes.heads import RemoveHeads
from headway.exporter.passes.lowrank import break_even
from headway.exporter.targets.base import TargetSpec
from headway.exporter.targets.ort import target as ort

from tests.support import models
from tests.support.variants import canonical

WORK = Workload(((1, 9),))


@pytest.fixture(scope="module")
def model(tmp_path_factory: pytest.TempPathFactory):
    directory = tmp_path_factory.mktemp("bert")
    return canonical(models.make_model(directory, "bert", intermediate_size=256, hidden_size=64))


@pytest.fixture(scope="module")
def evidence(model) -> Evidence:
    ids = np.random.default_rng(0).integers(5, 290, (8, 12))
    from headway.calibration.batches import Batch

    feeds = {"input_ids": ids, "attention_mask": np.ones_like(ids), "token_type_ids": np.zeros_like(ids)}
    return collect(TorchGraph(model), read_anatomy(model), [Batch(feeds, np.arange(8))], source="", text="")


def table(rank_cost: float = 0.1) -> LatencyTable:
    heads = {0: 0.0, 2: 0.5, 4: 1.0}
    neurons = {0: 0.0, 128: 1.0, 256: 2.0}
    return LatencyTable("ort", WORK, 7.0, 1.0, heads, neurons, {16: rank_cost}, {16: 2 * rank_cost})


def test_noise_makes_no_cost_negative(
    model, evidence: Evidence, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """On a busy machine a cut model may look slower than the whole one."""
    rng = np.random.default_rng(0)
    monkeypatch.setattr(latency, "paired_times", lambda *_, **__: [1.0, float(rng.uniform(0.2, 1.5))])
    found = measure_table(model, WORK, ort.SPEC, cache=tmp_path)
    tables = (found.heads, found.neurons, found.attention_rank, found.neuron_rank)
    assert min(cost for costs in tables for cost in costs.values()) == 0
    assert found.rest <= found.full
    parts = find_parts(model, read_anatomy(model), evidence, found, ort.SPEC)
    choose(parts, read_anatomy(model), 0.5 * sum(max(o.cost for o in p.options) for p in parts))


@settings(max_examples=30, deadline=None)
@given(
    st.lists(st.lists(st.tuples(st.integers(0, 9), st.integers(0, 9)), min_size=1, max_size=4), min_size=1, max_size=4)
)
def test_choice_is_the_best_there_is(raw: list[list[tuple[int, int]]]) -> None:
    """Against all combinations; costs are whole parts of the budget, so that quantizing rounds nothing."""
    budget = 10
    parts = [_part(i, [Option(float(c), float(loss), 0) for c, loss in options]) for i, options in enumerate(raw)]
    sums = [(sum(c for c, _ in pick), sum(loss for _, loss in pick)) for pick in product(*raw)]
    fitting = [loss for cost, loss in sums if cost <= budget]
    if not fitting:
        with pytest.raises(GateError):
            choose(parts, Anatomy(()), budget)
        return
    plan = choose(parts, Anatomy(()), budget)
    assert plan.loss == pytest.approx(min(fitting))
    assert plan.cost <= budget


def _part(number: int, options: list[Option]) -> Part:
    nothing = SimpleNamespace(units=0, block=number, number=None)
    return Part([nothing], Removal(np.arange(0), np.zeros(1)), options)  # type: ignore[list-item]


def test_heads_neurons_and_ranks_compete(model, evidence: Evidence) -> None:
    anatomy = read_anatomy(model)
    parts = find_parts(model, anatomy, evidence, table(), ort.SPEC)
    assert [s.name for p in parts for s in p.sites] == [s.name for s in sites(anatomy)]
    for part in parts:
        assert {o.rank for o in part.options} == {None, 16}
        whole = [o for o in part.options if o.keep == part.sites[0].units and o.rank is None]
        assert len(whole) == 1 and whole[0].loss == 0
    plan = choose(parts, anatomy, 3.0)
    assert plan.cost <= 3.0 and (plan.heads or plan.neurons or plan.ranks)
    for one in plan.passes(anatomy, evidence):
        trial = model.clone()
        one(trial)
    widths = {len(k) for k in plan.neurons.values()}
    assert all(w % ort.SPEC.neuron_multiple == 0 for w in widths)
    assert not choose(parts, anatomy, 6.0).passes(anatomy, evidence)
    with pytest.raises(GateError, match="would be needed"):
        choose(parts, anatomy, -1.0)


def test_a_split_that_is_not_faster_is_no_option(model, evidence: Evidence) -> None:
    parts = find_parts(model, read_anatomy(model), evidence, table(rank_cost=2.0), ort.SPEC)
    assert all(o.rank is None for p in parts for o in p.options)


def test_flops_stand_in_for_time(model, evidence: Evidence) -> None:
    anatomy = read_anatomy(model)
    parts = find_parts(model, anatomy, evidence, None, ort.SPEC, length=9)
    whole = sum(o.cost for p in parts for o in p.options if o.rank is None and o.keep == p.sites[0].units)
    assert whole * 2 == pytest.approx(anatomy.flops_per_token(9))
    plan = choose(parts, anatomy, 0.5 * whole)
    trial = model.clone()
    for one in plan.passes(anatomy, evidence):
        one(trial)
    assert read_anatomy(trial).flops_per_token(9) <= 0.5 * anatomy.flops_per_token(9) * 1.001


def test_shared_layers_are_one_decision(tmp_path: Path) -> None:
    model = canonical(models.make_model(tmp_path, "albert"))
    anatomy = read_anatomy(model)
    from headway.calibration.batches import Batch

    ids = np.random.default_rng(0).integers(5, 290, (4, 9))
    feeds = {"input_ids": ids, "attention_mask": np.ones_like(ids), "token_type_ids": np.zeros_like(ids)}
    found = collect(TorchGraph(model), anatomy, [Batch(feeds, np.arange(4))], source="", text="")
    parts = find_parts(model, anatomy, found, None, TargetSpec("any", 16, 16), length=9)
    assert [len(p.sites) for p in parts] == [3, 3]
    plan = choose(parts, anatomy, 0.6 * sum(max(o.cost for o in p.options) for p in parts))
    for one in plan.passes(anatomy, found):
        one(model)
    TorchGraph(model)(feeds)


def test_latency_table_is_measured_once_and_read_again(model, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(latency, "IDLE_SECONDS", 0.0)
    told: list[str] = []
    first = measure_table(model, WORK, ort.SPEC, cache=tmp_path, on_level=lambda name, **_: told.append(name))
    assert told and first.full > 0 and set(first.heads) == {0, 1, 2, 3, 4} and max(first.neurons) == 256
    assert first.heads[0] == 0 and first.neurons[0] == 0
    again = measure_table(
        model, WORK, ort.SPEC, cache=tmp_path, on_level=lambda *_, **__: pytest.fail("measured again")
    )
    assert again == first
    next(tmp_path.glob("*.json")).write_text('{"target": ')  # damaged: measured again
    assert measure_table(model, WORK, ort.SPEC, cache=tmp_path).heads.keys() == first.heads.keys()
    other = Workload(((1, 9),), threads=2)
    told.clear()
    measure_table(model, other, ort.SPEC, cache=tmp_path, on_level=lambda name, **_: told.append(name))
    assert told and len(list(tmp_path.glob("*.json"))) == 2


def test_a_workload_s_ids_are_in_the_smallest_vocabulary() -> None:
    (feeds,) = Workload(((8, 64),)).feeds(("input_ids",))
    assert feeds["input_ids"].shape == (8, 64) and feeds["input_ids"].max() < 6


@given(st.dictionaries(st.integers(0, 40), st.floats(0, 9), min_size=1), st.integers(0, 40), st.integers(0, 40))
def test_costs_never_fall_as_levels_rise(costs: dict[int, float], a: int, b: int) -> None:
    made = LatencyTable("ort", WORK, 1.0, 0.0, heads=costs)
    low, high = sorted((a, b))
    assert made.attention(low) <= made.attention(high)


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
    tools = Tools(TorchGraph(model), [], wrong, 9, lambda _: evidence, apply, measure, ort.SPEC)
    made, (plan,) = fit(model, tools, budget=3.5, rounds=[1])
    assert 0.95 * 3.5 <= measure(made) <= 3.5 * 1.005
    assert read_anatomy(made) and (plan.heads or plan.neurons)


def test_a_block_that_lost_its_attention_before_may_go_whole(model) -> None:
    """What follows has another number then; heads would be taken from the block behind the one that was meant."""
    cut = model.clone()
    RemoveHeads({0: []})(cut)
    (leading, meant, *_), count = read_anatomy(cut).blocks, len(read_anatomy(cut).blocks)
    assert leading.attention is None and meant.attention is not None and meant.attention.heads > 1
    for one in CutPlan(heads={1: [0]}, neurons={(0, 0): []}).passes(read_anatomy(cut), None):
        one(cut)
    after = read_anatomy(cut).blocks
    assert len(after) == count - 1 and after[0].attention is not None and after[0].attention.heads == 1


def test_time_that_others_had_the_core_does_not_count() -> None:
    """A run that is kept waiting takes no longer than one that is not."""

    class Waiting:
        input_names = ("input_ids",)

        def __init__(self, seconds: float):
            self.seconds = seconds

        def run(self, feeds) -> dict[str, np.ndarray]:
            time.sleep(self.seconds)
            return {}

    quick, kept_waiting = paired_times([Waiting(0.0), Waiting(0.02)], WORK, rounds=5)  # type: ignore[list-item]
    assert quick < 10 and kept_waiting < 10


def test_workload_follows_the_text() -> None:
    made = Workload.of(np.arange(1, 101))
    assert made.shapes == ((1, 13), (1, 38), (1, 63), (1, 88))
    feeds = made.feeds(["input_ids", "attention_mask"])
    assert feeds[0]["input_ids"].shape == (1, 13) and feeds[0]["attention_mask"].all()


def test_grown_to_the_multiple_that_pays() -> None:
    spec = TargetSpec("any", neuron_multiple=16, rank_multiple=16)
    assert [spec.grown(n, 100) for n in (0, 1, 16, 17, 97, 100)] == [0, 16, 16, 32, 100, 100]


def test_matrices_of_a_part(model) -> None:
    anatomy = read_anatomy(model)
    assert [r for _, r, _ in part_matrices(anatomy, 0, attention=True)] == [64] * 4
    sizes = [(r, c) for _, r, c in part_matrices(anatomy, 0, attention=False)]
    assert sizes == [(64, 256), (256, 64)] and break_even(64, 256) == 51
