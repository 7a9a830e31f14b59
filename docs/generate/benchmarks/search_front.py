"""What a search finds, beside random search and single methods."""

from typing import Any

from .. import markdown, places
from .results import read, source

NAME = "search-movies"


def movies() -> str:
    """Return the figures of the movie classifier; or that nothing was measured, with the command that does it."""
    if not (places.RESULTS / f"{NAME}.json").is_file():
        return "Not measured: there is no result. `python -m benchmarks.search` measures it."
    result = read(NAME)
    about = (
        f"{result['minutes']:g} minutes with {result['workers']} workers, seed {result['seed']}, timed on {result['workload']}. "
        f"The source has {result['source']['quality']:.2f} % accuracy and {result['source']['mb']:.1f} MB."
    )
    rows = [[name, *_searched(result[name])] for name in ("search", "random search")]
    curves = result["single methods"].items()
    rows += [[name, str(len(curve["rows"])), "–", f"{curve['hypervolume']:.4f}"] for name, curve in curves]
    parts = [about, markdown.table(["models", "bundles", "trials", "hypervolume"], rows)]
    heads = ["bundle", "latency, part of the source's", "points lost", "MB"]
    parts.append(markdown.table(heads, [_bundle(row) for row in result["search"]["rows"]]))
    if (places.RESULTS / f"{NAME}.png").is_file():
        parts.append(f"![Points lost against latency](plots/{NAME}.png)")
    return markdown.join(*parts, source(NAME))


def _searched(found: dict[str, Any]) -> list[str]:
    return [str(found["bundles"]), str(sum(found["trials"].values())), f"{found['hypervolume']:.4f}"]


def _bundle(row: dict[str, Any]) -> list[str]:
    (low, high), (least, most) = row["latency_interval"], row["lost_interval"]
    return [
        row["what"],
        f"{row['latency_ratio']:.3f} ({low:.3f} to {high:.3f})",
        f"{row['lost']:.2f} ({least:.2f} to {most:.2f})",
        f"{row['mb']:.1f}",
    ]
