"""What a reranker keeps when it is cut and quantized, by labels."""

from typing import Any

from .. import markdown, places
from .results import read, source

_NAME = "rerankers"


def table() -> str:
    """Return each way beside the source, with what is lost of the first metric and its interval."""
    if not (places.RESULTS / f"{_NAME}.json").is_file():
        return "Not measured: there is no result. `python -m benchmarks.rerankers` measures it."
    result = read(_NAME)
    asked = result["queries"]
    about = (
        f"Learned from {asked['train']:,} queries of ten texts, judged on {asked['test']:,} others. Timed on {result['workload']}. "
        f"Confidence is that of losing at most {result['allowed']:g} points of nDCG@10."
    )
    head = ["way", "speed-up", "MB", "nDCG@10 (source)", "lost", "confidence", "MRR (source)"]
    return markdown.join(about, markdown.table(head, [_row(row) for row in result["rows"]]), source(_NAME))


def _row(row: dict[str, Any]) -> list[str]:
    if "refused" in row:
        return [row["way"], "refused", *["–"] * 5]
    drops = {drop["metric"]: drop for drop in row["drops"]}
    first, reciprocal = drops["nDCG@10"], drops["MRR"]
    lost = first["drop"]
    return [
        row["way"],
        markdown.interval(row["speedup"]) + "×",
        f"{row['mb']:.1f}",
        f"{first['points']:.2f} ({first['source_points']:.2f})",
        f"{lost['value']:.2f} ({lost['low']:.2f} to {lost['high']:.2f})",
        f"{100 * first['confidence']:.1f} %",
        f"{reciprocal['points']:.2f} ({reciprocal['source_points']:.2f})",
    ]
