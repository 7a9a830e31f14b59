"""Keep the plans of an interrupted compression."""

import json
from pathlib import Path

from ...json_file import read_json
from .job import Job
from .search import Plan


def plan_file(job: Job) -> Path:
    return job.out.parent / f".{job.out.name}.plan.json"


def write_plans(job: Job) -> None:
    """What was chosen stays beside the progress: a search repeated on a noisy machine might choose otherwise."""
    plans = [
        {
            "heads": p.heads,
            "neurons": [[b, n, kept] for (b, n), kept in p.neurons.items()],
            "ranks": p.ranks,
            "cost": p.cost,
            "loss": p.loss,
        }
        for p in job.plans
    ]
    content = {"recipe": job.recipe.to_yaml(), "source": job.fingerprint, "plans": plans}
    plan_file(job).write_text(json.dumps(content), encoding="utf-8")


def read_plans(job: Job) -> list[Plan]:
    """Those of an interrupted run of the same recipe on the same source."""
    path = plan_file(job)
    if not path.is_file():
        return []
    raw = read_json(path)
    if raw["recipe"] != job.recipe.to_yaml() or raw["source"] != job.fingerprint:
        return []
    return [
        Plan(
            {int(b): kept for b, kept in p["heads"].items()},
            {(b, n): kept for b, n, kept in p["neurons"]},
            p["ranks"],
            p["cost"],
            p["loss"],
        )
        for p in raw["plans"]
    ]
