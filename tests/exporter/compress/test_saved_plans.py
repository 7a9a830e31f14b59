"""Plans of an interrupted run: followed by the same recipe on the same source, and by no other."""

from collections.abc import Callable
from dataclasses import replace

from headway.exporter.compress.job import Job
from headway.exporter.compress.saved_plans import plan_file, read_plans, write_plans
from headway.exporter.compress.search import CutPlan


def test_plans_are_followed_by_the_same_recipe_on_the_same_source(begin: Callable[..., Job]) -> None:
    job = begin([{"kind": "fit", "flops": 0.5}])
    assert read_plans(job) == []
    plans = [CutPlan({0: [1, 2]}, {(1, 0): [3, 5]}, {"a.weight": 16}, 2.5, 0.25), CutPlan()]
    job.learned.plans = plans
    write_plans(job)
    assert plan_file(job).parent == job.given.out.parent and read_plans(job) == plans
    other = job.given.recipe.model_copy(update={"max_drop": 7.0})
    for given in (replace(job.given, recipe=other), replace(job.given, source_fingerprint="another")):
        assert read_plans(replace(job, given=given)) == []
