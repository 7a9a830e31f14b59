"""The step that removes until a budget is met."""

import shutil
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path

import numpy as np
import onnx_ir as ir
import pytest

from headway.errors import GateError
from headway.exporter.compress import fit_steps
from headway.exporter.compress.fit_steps import fit_to_budget
from headway.exporter.compress.job import Job
from headway.exporter.compress.latency_table import LatencyTable
from headway.exporter.compress.stopwatch import Stopwatch, Timing
from headway.exporter.export import export
from headway.exporter.graph.anatomy import read_anatomy
from headway.exporter.graph.edit import constant
from headway.exporter.recipe.pass_specs import FitSpec
from headway.exporter.recipe.recipe import make_recipe


def test_a_budget_out_of_reach_names_the_closest(classifier: Path, text: Path, tmp_path: Path) -> None:
    recipe = make_recipe(
        "test", source=str(classifier), data=text, passes=[{"kind": "fit", "speedup": 500}], max_drop=100
    )
    with pytest.raises(GateError, match="cannot be met"):
        export(recipe, tmp_path / "bundle")
    assert not (tmp_path / "bundle").exists()


def test_a_plan_in_the_recipe_is_followed_without_a_measurement(
    begin: Callable[..., Job], monkeypatch: pytest.MonkeyPatch
) -> None:
    job = begin([], max_drop=100)
    fit_to_budget(job, FitSpec(flops=0.6))
    made = FitSpec(flops=0.6, **job.outcome.decided)
    assert made.plan and any(r.neurons for r in made.plan)
    again = begin([], max_drop=100)
    monkeypatch.setattr(fit_steps, "measure_table", lambda *_, **__: pytest.fail("a latency table was measured"))
    monkeypatch.setattr(fit_steps, "fit", lambda *_, **__: pytest.fail("a plan was searched"))
    changes = fit_to_budget(again, FitSpec(speedup=1.5, plan=made.plan))
    assert changes and not FitSpec(speedup=1.5, plan=made.plan).needs_latency
    weights = [
        {n: constant(v) for n, v in j.outcome.model.graph.initializers.items() if constant(v) is not None}
        for j in (job, again)
    ]
    assert weights[0].keys() == weights[1].keys()
    assert all(np.array_equal(weights[0][n], weights[1][n]) for n in weights[0])


def plan_on_a_noisy_machine(job: Job, seed: int, monkeypatch: pytest.MonkeyPatch) -> list[dict]:
    """Return the plan of a search in which each latency is off by some percent, otherwise on every run."""
    noise = np.random.default_rng(seed)
    whole = read_anatomy(job.source_model).flops_per_token(16)

    def time(stopwatch: Stopwatch, model: ir.Model) -> tuple[Timing, int]:
        stopwatch.source_ms = 1.0
        ratio = 0.1 + 0.9 * read_anatomy(model).flops_per_token(16) / whole * noise.uniform(0.8, 1.2)
        return Timing(1.0, ratio, ratio, ratio), 1

    heads, neurons = {0: 0.0, 4: 0.1}, {0: 0.0, 256: 0.2}
    table = LatencyTable("ort", job.given.stopwatch.workload, 1.0, 0.1, heads, neurons)
    monkeypatch.setattr(type(job.given.stopwatch), "time", time)
    monkeypatch.setattr(fit_steps, "measure_table", lambda *_, **__: table)
    fit_to_budget(job, FitSpec(speedup=1.6, rounds=1))
    return [plan.model_dump() for plan in job.outcome.decided["plan"]]


def test_a_search_with_the_same_latencies_decides_the_same(
    begin: Callable[..., Job], monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    passes = [{"kind": "fit", "speedup": 1.6, "rounds": 1}]
    first = plan_on_a_noisy_machine(begin(passes, max_drop=100), 0, monkeypatch)
    assert first and any(round_["neurons"] for round_ in first)
    for seed in (1, 2):
        assert plan_on_a_noisy_machine(begin(passes, max_drop=100), seed, monkeypatch) == first
    others = []
    for seed in (3, 4, 5):  # what is not kept is measured, and decided, again
        shutil.rmtree(tmp_path / "work")
        others.append(plan_on_a_noisy_machine(begin(passes, max_drop=100), seed, monkeypatch))
    assert any(other != first for other in others)


def test_a_model_that_meets_another_budget_is_taken(begin: Callable[..., Job], monkeypatch: pytest.MonkeyPatch) -> None:
    """What a search built on its way serves a smaller budget, in order of loss."""
    job = begin([{"kind": "fit", "flops": 0.4}], max_drop=100)
    fit_to_budget(job, FitSpec(flops=0.4))
    assert len(job.learned.curve) > 1 and job.learned.curve == sorted(job.learned.curve, key=lambda p: p.speedup)
    on_the_way = job.learned.curve[0].speedup
    assert on_the_way < 1 / 0.45
    again = begin([{"kind": "fit", "flops": 0.999 * 1 / on_the_way + 0.001}], max_drop=100)
    monkeypatch.setattr(fit_steps, "fit", lambda *_, **__: pytest.fail("a plan was searched"))
    fit_to_budget(again, FitSpec(flops=1.02 / on_the_way))
    assert again.outcome.decided["plan"] and again.learned.curve == job.learned.curve


def test_the_curve_is_of_the_texts_to_choose_by(begin: Callable[..., Job], monkeypatch: pytest.MonkeyPatch) -> None:
    """Who chooses a budget by the curve has not seen the texts that the gate reads; other texts to choose by have another curve."""
    job = begin([{"kind": "fit", "flops": 0.5}], max_drop=100)
    monkeypatch.setattr(Job, "judge", lambda *_: pytest.fail("the texts of the gate were read"))
    fit_to_budget(job, FitSpec(flops=0.5))
    assert job.learned.curve
    monkeypatch.undo()
    again = begin([{"kind": "fit", "flops": 0.5}], max_drop=100)
    assert again.given.choice is not None
    other = replace(again.given.choice, files=(replace(again.given.choice.files[0], texts=again.given.quality.texts),))
    again = replace(again, given=replace(again.given, choice=other))
    tools = fit_steps._flops_tools(again)
    assert fit_steps._Earlier(again, tools, 1.0).curve == []
