"""The step that removes until a budget is met."""

from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest

from headway.errors import GateError
from headway.exporter.compress import fit_steps
from headway.exporter.compress.fit_steps import fit_to_budget
from headway.exporter.compress.job import Job
from headway.exporter.export import export
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
