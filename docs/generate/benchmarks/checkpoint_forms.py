"""Compressed checkpoints, each beside its uncompressed sibling."""

from typing import Any

from .. import markdown
from .results import read, source

_CASE = "1x32"


def table() -> str:
    """Return a row for each form: what was recognized, what is stored, and latency, recognizing and memory beside the sibling."""
    result = read("checkpoint-forms")
    head = [
        "form",
        "recognized",
        "artifact / sibling, MB",
        f"latency / sibling, {_CASE}",
        "recognizing, of the export",
        "peak memory / sibling",
    ]
    return markdown.join(
        markdown.table(head, [_row(n, row) for n, row in result["rows"].items()]), source("checkpoint-forms")
    )


def _row(name: str, row: dict[str, Any]) -> list[str]:
    sizes = " / ".join(markdown.megabytes(row["bytes"][which]) for which in ("form", "sibling"))
    return [
        name,
        markdown.sentence("; ".join(row["sentences"])) or "an ordinary model",
        sizes,
        markdown.interval(row["latency"][_CASE]),
        f"{100 * max(row['recognizing_share'].values()):.1f} %",
        f"{row['peak_ratio']:.2f}",
    ]


def large() -> str:
    """Return what the checkpoint of 3 GB cost, with an adapter and without; a sentence where it was not measured."""
    figures = read("checkpoint-forms").get("large")
    if figures is None:
        return "Not measured yet."
    rows = [
        [
            name,
            f"{figures[key]['seconds']:.0f} s",
            f"{figures[key]['peak'] / 1e9:.1f} GB",
            f"{figures[key]['peak'] / figures['bytes']:.2f}",
        ]
        for name, key in (("the checkpoint alone", "plain"), ("with a LoRA adapter", "merged"))
    ]
    head = [f"{figures['bytes'] / 1e9:.1f} GB in {figures['shards']} shards", "export", "peak memory", "of the weights"]
    return markdown.table(head, rows)
