"""What servers do under load: Headway's beside four other ways to serve the same model."""

from typing import Any

from .. import markdown, places
from .results import read, source

_NAME = "serving"
_OURS = "headway"


def rates() -> str:
    """Return how many requests a second each server answers, and the ratio to the best of the other ways."""
    if (missing := _missing()) is not None:
        return missing
    result = read(_NAME)
    best = max(row["rate_within_50ms"] for name, row in result["servers"].items() if not name.startswith(_OURS))
    head = [
        "server",
        "most requests/s with p99 ≤ 50 ms",
        "beside the best of the others",
        "capacity, requests/s",
        "one client, ms",
    ]
    rows = [
        [
            name,
            f"{row['rate_within_50ms']:.0f}",
            f"{row['rate_within_50ms'] / best:.2f}" if best else "–",
            f"{row['capacity']:.0f}",
            f"{row['alone_ms']:.2f}",
        ]
        for name, row in result["servers"].items()
    ]
    texts = result["texts"]
    about = f"{texts['count']:,} texts of {texts['mean_tokens']:g} tokens on average, {texts['most_tokens']} at most; one text a request."
    return markdown.join(about, markdown.table(head, rows), source(_NAME))


def beside_bare() -> str:
    """Return what a request takes beside the bare runner of the same bundle."""
    if (missing := _missing()) is not None:
        return missing
    head = ["server", "a request beside the bare runner", "bare runner, ms", "added, ms"]
    rows = [
        [name, markdown.interval(row["ratio"]), f"{row['ms'][1]:.2f}", f"{row['added_ms']:.2f}"]
        for name, row in read(_NAME)["beside_bare"].items()
    ]
    return markdown.join(markdown.table(head, rows), source(_NAME))


def loads() -> str:
    """Return latencies, refusals, losses and memory of each server at each share of its capacity."""
    if (missing := _missing()) is not None:
        return missing
    result = read(_NAME)
    head = [
        "server",
        "load",
        "asked/s",
        "answered/s",
        "p50, ms",
        "p99, ms",
        "429",
        "lost",
        "memory before and after, MB",
    ]
    rows = [_load(name, load) for name, row in result["servers"].items() for load in row["loads"]]
    about = (
        f"Poisson arrivals for {result['seconds']:g} seconds each. Latencies count from the moment a request was due."
    )
    return markdown.join(about, markdown.table(head, rows), source(_NAME))


def _load(name: str, load: dict[str, Any]) -> list[str]:
    memory = f"{load['memory_before'] / 1e6:.0f}, {load['memory_after'] / 1e6:.0f}"
    times = [f"{load['p50']:.1f}", f"{load['p99']:.1f}"]
    counts = [str(load["refused"]), str(load["lost"])]
    return [
        name,
        f"{load['share']:.0%}".replace("%", " %"),
        f"{load['rate']:.0f}",
        f"{load['answered']:.0f}",
        *times,
        *counts,
        memory,
    ]


def _missing() -> str | None:
    if (places.RESULTS / f"{_NAME}.json").is_file() and "beside_bare" in read(_NAME):  # which a run writes last
        return None
    return "Not measured: there is no result. `python -m benchmarks.serving` measures it."
