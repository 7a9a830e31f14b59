"""Keep the plans of an interrupted compression."""

import json
from pathlib import Path

from ...json_file import read_json
from .job import Job
from .search import CutPlan


def plan_file(job: Job) -> Path:
    """Return the place of the plans, beside the output."""
    return job.given.out.parent / f".{job.given.out.name}.plan.json"


def write_plans(job: Job) -> None:
    """Write what was chosen beside the progress: a search repeated on a noisy machine might choose otherwise."""
    plans = [
        {
            "heads": p.heads,
            "neurons": [[b, n, units] for (b, n), units in p.neurons.items()],
            "ranks": p.ranks,
            "cost": p.cost,
            "loss": p.loss,
        }
        for p in job.learned.plans
    ]
    content = {"recipe": job.given.recipe.to_yaml(), "source": job.given.source_fingerprint, "plans": plans}
    plan_file(job).write_text(json.dumps(content), encoding="utf-8")


def read_plans(job: Job) -> list[CutPlan]:
    """Return the plans of an interrupted run of the same recipe on the same source; none where there was none."""
    path = plan_file(job)
    if not path.is_file():
        return []
    raw = read_json(path)
    if raw["recipe"] != job.given.recipe.to_yaml() or raw["source"] != job.given.source_fingerprint:
        return []
    return [
        CutPlan(
            {int(b): units for b, units in p["heads"].items()},
            {(b, n): units for b, n, units in p["neurons"]},
            p["ranks"],
            p["cost"],
            p["loss"],
        )
        for p in raw["plans"]
    ]
