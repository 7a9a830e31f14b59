"""The search: exact choices, and budgets that cannot be met."""

from itertools import product
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from headway.calibration.batches import Batch
from headway.calibration.removal import Removal
from headway.errors import GateError
from headway.exporter.compress.evidence import Evidence, collect, sites
from headway.exporter.compress.search import CutPlan, Option, Part, choose, find_parts
from headway.exporter.graph.anatomy import Anatomy, read_anatomy
from headway.exporter.graph.torch_graph import TorchGraph
from headway.exporter.passes.heads import RemoveHeads
from headway.exporter.passes.lowrank import SplitWeights
from headway.exporter.passes.neurons import RemoveNeurons
from headway.exporter.recipe.pass_specs import RoundPlan
from headway.exporter.targets.base import TargetSpec
from headway.exporter.targets.ort import target as ort

from tests.support import models
from tests.support.evidence import table
from tests.support.variants import canonical


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


def test_weights_that_came_factored_are_cut_by_a_table_of_them(model, evidence: Evidence) -> None:
    """What a table says of levels was measured on the model as it came, factors included."""
    projections = [p for b in read_anatomy(model).blocks for p in b.projections]
    factored = model.clone()
    SplitWeights({p.weight: 8 for p in projections}, random=True)(factored)
    anatomy = read_anatomy(factored)
    assert all(s.projection.rank == 8 for s in sites(anatomy))
    ids = np.random.default_rng(0).integers(5, 290, (4, 9))
    feeds = {"input_ids": ids, "attention_mask": np.ones_like(ids), "token_type_ids": np.zeros_like(ids)}
    found = collect(TorchGraph(factored), anatomy, [Batch(feeds, np.arange(4))], source="", text="")
    parts = find_parts(factored, anatomy, found, table(), ort.SPEC)
    assert all({o.keep for o in p.options} > {p.sites[0].units} for p in parts)
    assert all(o.rank is None for p in parts for o in p.options)


def test_a_cut_of_factored_weights_saves_the_multiply_adds_that_go(model) -> None:
    factored = model.clone()
    SplitWeights({p.weight: 8 for b in read_anatomy(model).blocks for p in b.projections}, random=True)(factored)
    anatomy, any_order = read_anatomy(factored), {"order": np.arange(0), "loss": np.zeros(257)}  # costs have none
    unread: Any = None
    parts = find_parts(factored, anatomy, unread, None, ort.SPEC, length=9, ranks=False, remember=lambda *_: any_order)
    for part in parts:
        site, whole, left = part.sites[0], part.options[-1], factored.clone()
        half = next(o for o in part.options if o.keep * 2 == site.units)
        stay = list(range(half.keep))
        (RemoveHeads({site.block: stay}) if site.is_attention else RemoveNeurons({(site.block, 0): stay}))(left)
        saved = anatomy.flops_per_token(9) - read_anatomy(left).flops_per_token(9)
        assert (whole.cost - half.cost) * 2 == pytest.approx(saved)


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
    ids = np.random.default_rng(0).integers(5, 290, (4, 9))
    feeds = {"input_ids": ids, "attention_mask": np.ones_like(ids), "token_type_ids": np.zeros_like(ids)}
    found = collect(TorchGraph(model), anatomy, [Batch(feeds, np.arange(4))], source="", text="")
    parts = find_parts(model, anatomy, found, None, TargetSpec("any", 16, 16), length=9)
    assert [len(p.sites) for p in parts] == [3, 3]
    plan = choose(parts, anatomy, 0.6 * sum(max(o.cost for o in p.options) for p in parts))
    for one in plan.passes(anatomy, found):
        one(model)
    TorchGraph(model)(feeds)


@pytest.mark.parametrize(
    ("attention", "neurons", "block"),
    [
        (None, {(0, 0): [], (0, 1): []}, 0),
        (None, {(0, 0): [], (0, 1): [3]}, 1),
        (None, {(0, 0): [3], (0, 1): []}, 1),
        (None, {(0, 0): []}, 1),
        ("some", {(0, 0): [], (0, 1): []}, 1),
    ],
)
def test_blocks_are_renumbered_only_where_the_first_goes_whole(
    attention: str | None, neurons: dict, block: int
) -> None:
    """All its feed-forwards go, and its attention was gone before."""
    first = SimpleNamespace(attention=attention, feed_forwards=["one", "two"])
    passes = CutPlan(heads={1: [0]}, neurons=neurons).passes(SimpleNamespace(blocks=[first]), None)  # type: ignore[arg-type]
    (heads,) = [p for p in passes if isinstance(p, RemoveHeads)]
    assert heads.keep == {block: [0]}


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


def test_a_plan_comes_back_from_a_recipe() -> None:
    plan = CutPlan({0: [0, 2], 3: []}, {(0, 0): [*range(40), 44], (2, 1): [7]}, {"a.weight": 16}, 1.5, 0.25)
    written = plan.written()
    assert written.neurons == {"0": "0-39 44", "2.1": "7"}
    again = CutPlan.read(RoundPlan(**written.model_dump()))
    assert (again.heads, again.neurons, again.ranks) == (plan.heads, plan.neurons, plan.ranks)
