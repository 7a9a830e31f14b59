"""Structured compression: quality at a measured speed-up."""

from typing import Any

from .. import markdown
from .results import read, source

_METHODS = {
    "Headway": "Headway",
    "Headway without repair": "without repair",
    "magnitude removal": "magnitude",
    "random removal": "random",
}
_TASKS = {
    "movies": "movie sentences: accuracy, %",
    "news": "news similarity: Pearson × 100",
    "sts": "rated pairs: Pearson × 100",
    "sts-mpnet": "rated pairs, all-mpnet-base-v2: Pearson × 100",
    "wnut17": "named entities: F1, %",
}


def _cell(row: dict[str, Any]) -> str:
    """Return quality, its interval where one was taken, and the speed-up."""
    low, high = row.get("quality_interval", (None, None))
    span = f" [{low:.1f}, {high:.1f}]" if low is not None else ""
    return f"{row['quality']:.1f}{span} at {row['speedup']:.2f}×"


def _agreement(rows: list[dict[str, Any]]) -> str:
    """Return how far Headway's models agree with their source, and what they lost on people's labels."""
    parts = []
    for row in rows:
        if row["method"] == "Headway" and "lost_interval" in row:
            low, high = row["lost_interval"]
            parts.append(
                f"{row['agreement']:.1f} at {row['speedup']:.2f}× (lost on people's labels: between {low:.1f} and {high:.1f} points)"
            )
    return f"Agreement of Headway's models with their source: {', '.join(parts)}." if parts else ""


def table(task: str) -> str:
    """Return quality at each speed-up, by method."""
    name = f"compression-{task}"
    rows: list[dict[str, Any]] = read(name)["rows"]
    wanted = sorted({row["wanted"] for row in rows if row["method"] == "Headway"})
    by_case = {(row["method"], row["wanted"]): row for row in rows}
    source_quality = by_case["source", 1.0]["quality"]
    body = [
        [f"{speedup:g}×", *(_cell(by_case[m, speedup]) if (m, speedup) in by_case else "-" for m in _METHODS)]
        for speedup in wanted
    ]
    head = [f"{_TASKS[task]}, source {source_quality:.1f}", *_METHODS.values()]
    others = []
    for method, label in (("uniform layer dropping", "Uniform layer dropping"), ("plain SVD", "Plain SVD")):
        others.append(f"{label}: {', '.join(_cell(row) for row in rows if row['method'] == method)}.")
    recovered = [row for row in rows if "minutes of recovery" in row["method"]]
    others += [f"{row['method']}: {_cell(row)}." for row in recovered]
    others += [line for line in [_agreement(rows)] if line]
    workload = f"Speed was measured on batches {read(name)['workload'].replace(' thread(s)', ' thread')}."
    notes = "\n".join(f"- {text}" for text in [*others, workload])
    return markdown.join(markdown.table(head, body), notes, source(name))


def movies() -> str:
    """Return the table of movie sentences."""
    return table("movies")


def news() -> str:
    """Return the table of news."""
    return table("news")


def rated_pairs() -> str:
    """Return the table of sentences whose similarity people have rated."""
    return table("sts")


def rated_pairs_of_a_large_model() -> str:
    """Return the same table of a model of BERT-base's size."""
    return table("sts-mpnet")


def named_entities() -> str:
    """Return the table of named entities."""
    return table("wnut17")


def cost() -> str:
    """Return minutes and memory of a compression."""
    result = read("compression-cost")
    mini, base = result["MiniLM-L6"], result["BERT-base, random"]
    rows = [
        [
            "MiniLM-L6, 512 texts (one core)",
            f"{mini['seconds'] / 60:.1f}",
            f"{mini['peak'] / 1e9:.1f} GB, of which importing torch and transformers {mini['imports_peak'] / 1e9:.1f}",
        ],
        ["BERT-base's size, random weights", f"{base['seconds'] / 60:.1f}", f"{base['peak'] / 1e9:.1f} GB"],
    ]
    head = ["compression to 2×, whole process", "minutes", "peak memory"]
    return markdown.join(markdown.table(head, rows), source("compression-cost"))


def prune_heads() -> str:
    """Return how far head removal is from that of transformers."""
    result = read("prune-heads")
    removed = sum(len(heads) for heads in result["gone"].values())
    text = (
        f"With the same {removed} heads removed from MiniLM-L6, token states differ from those of `prune_heads` in transformers 4 "
        f"by at most {result['largest_difference']:.1e}; the largest state is {result['largest_state']:.1f}."
    )
    return markdown.join(text, source("prune-heads"))
