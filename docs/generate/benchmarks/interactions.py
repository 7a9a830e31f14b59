"""How compression methods act on each other: combinations beside the sum of their single effects."""

from typing import Any

from .. import markdown, places
from .results import read, source


def movies() -> str:
    """Return the table of the movie classifier."""
    return table("movies")


def embeddings() -> str:
    """Return the table of sentence embeddings."""
    return table("sts")


def table(task: str) -> str:
    """Return single effects and combinations; or that nothing was measured, with the command that does it."""
    name = f"interactions-{task}"
    if not (places.RESULTS / f"{name}.json").is_file():
        return f"Not measured: there is no result. `python -m benchmarks.interactions {task}` measures it."
    result = read(name)
    settings = result["settings"]
    about = (
        f"{result['title']}: {result['metric']}, source {result['source']['quality']:.2f} and {result['source']['mb']:.1f} MB. "
        f"Learned from {settings['texts'] or 'all'} texts; {settings['minutes']:g} minutes of distillation; timed on {result['workload']}."
    )
    parts = [about]
    single = [row for row in result["rows"] if len(row["methods"]) == 1]
    several = [row for row in result["rows"] if len(row["methods"]) > 1]
    if single:
        parts.append(
            markdown.table(["method alone", "speed-up", "bytes saved", "points lost"], [_effects(r) for r in single])
        )
    if several:
        head = [
            "methods",
            "speed-up",
            "bytes saved",
            "points lost",
            "points beyond the sum",
            "speed beside the product",
        ]
        several.sort(key=lambda row: (len(row["methods"]), row.get("beyond_lost", 0.0)))
        parts.append(markdown.table(head, [[*_effects(r), *_beyond(r)] for r in several]))
    if (places.RESULTS / f"{name}.png").is_file():
        parts.append(f"![Points lost beyond the sum of single effects](plots/{name}.png)")
    return markdown.join(*parts, source(name))


def _effects(row: dict[str, Any]) -> list[str]:
    names = " + ".join(row["methods"])
    if "refused" in row:
        return [names, "refused", "–", "–"]
    low, high = row["lost_interval"]
    undone = f" ({', '.join(row['undone'])} undone)" if row["undone"] else ""
    return [
        names + undone,
        f"{row['speedup']:.2f}×",
        f"{row['saving']:.2f}×",
        f"{row['lost']:.2f} ({low:.2f} to {high:.2f})",
    ]


def _beyond(row: dict[str, Any]) -> list[str]:
    if "beyond_lost" not in row:
        return ["–", "–"]
    low, high = row["beyond_lost_interval"]
    return [f"{row['beyond_lost']:+.2f} ({low:+.2f} to {high:+.2f})", f"{row['beyond_speed']:.2f}"]
