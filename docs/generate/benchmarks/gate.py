"""What simulations say about the gate's intervals and verdicts, and how a lock held on a real machine."""

from collections import Counter
from collections.abc import Callable
from statistics import median
from typing import Any

from .. import markdown
from .results import read, source

_REPEATED = {"same": "the same bundle", "beside_a_busy_core": "the same, beside a busy core"}


def _percent(part: float | None) -> str:
    return "–" if part is None else f"{100 * part:.1f} %"


def intervals() -> str:
    """Return how many of the 95 % intervals hold the truth, by law and figure."""
    result = read("gate-statistics")
    head = ["law", "p50", "p90", "p99", f"ratio, {result['blocks']} processes"]
    rows = []
    for law, figures in result["percentiles"].items():
        cells = [_covered(figures[q]) for q in ("p50", "p90", "p99")]
        rows.append([law, *cells, _percent(result["ratios"][law])])
    return markdown.join(markdown.table(head, rows), source("gate-statistics"))


def _covered(figure: dict[str, Any]) -> str:
    if figure["coverage"] is None:
        return "never given"
    missing = f", not given in {_percent(figure['not_given'])}" if figure["not_given"] else ""
    return _percent(figure["coverage"]) + missing


def verdicts() -> str:
    """Return how often a bundle passes, fails and stays undecided, by mode, law and true slowdown."""
    head = ["mode", "law", "true slowdown", "pass", "fail", "undecided", "processes", "seconds"]
    rows = []
    for row in read("gate-statistics")["verdicts"]:
        verdict = [_percent(row[name]) for name in ("pass", "fail", "undecided")]
        slowdown = f"{100 * (row['slowdown'] - 1):.0f} %"
        rows.append([row["mode"], row["law"], slowdown, *verdict, f"{row['blocks']:.0f}", f"{row['seconds']:.0f}"])
    return markdown.join(markdown.table(head, rows), source("gate-statistics"))


def at_the_limit() -> str:
    """Return the verdicts on bundles that are exactly as slow as the limit allows."""
    rows = [
        [law, *(_percent(row[name]) for name in ("pass", "fail", "undecided"))]
        for law, row in read("gate-statistics")["at_the_limit"].items()
    ]
    return markdown.join(markdown.table(["law", "pass", "fail", "undecided"], rows), source("gate-statistics"))


def server() -> str:
    """Return how far the search's rate is from the capacity of an M/D/1 queue."""
    head = ["bound", "capacity, queries/s", "median distance", "largest", "within 5 %"]
    rows = [
        [
            f"{row['bound_ms']:.0f} ms",
            f"{row['capacity']:.1f}",
            *(_percent(row[name]) for name in ("median", "largest", "within_5_percent")),
        ]
        for row in read("gate-statistics")["server"]
    ]
    return markdown.join(markdown.table(head, rows), source("gate-statistics"))


def lock() -> str:
    """Return the verdicts of a real bundle by its lock, counted."""
    result = read("gate-lock")
    rows = [
        _judged("without fusions", [result["unfused"]]),
        *(_judged(name, result[key]) for key, name in _REPEATED.items() if result.get(key)),
    ]
    head = ["bundle", "runs", "verdicts", "speed beside the lock", "processor time taken by others", "seconds"]
    lock = f"Mode `{result['mode']}`; writing the lock took {result['lock_seconds']:.0f} seconds."
    about = f"{lock} Figures are medians, with the least and the most."
    return markdown.join(about, markdown.table(head, rows), source("gate-lock"))


def _judged(name: str, rows: list[dict[str, Any]]) -> list[str]:
    counts = Counter(row["verdict"] for row in rows)
    verdicts = ", ".join(f"{verdict} {count}" for verdict, count in counts.most_common())
    speeds = [row["speed"]["value"] for row in rows if row["speed"]]
    taken, seconds = [row["taken"] for row in rows], [row["seconds"] for row in rows]
    cells = [_range(speeds, "{:.3f}".format), _range(taken, _percent), _range(seconds, "{:.0f}".format)]
    return [name, str(len(rows)), verdicts, *cells]


def _range(values: list[float], form: Callable[[float], str]) -> str:
    if not values:
        return "–"
    middle, low, high = (form(value) for value in (median(values), min(values), max(values)))
    return middle if len(values) == 1 else f"{middle} ({low} to {high})"
