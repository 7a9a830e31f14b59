"""Compressed checkpoints, each beside its uncompressed sibling."""

from typing import Any

from .. import markdown
from .results import read, sources, told

_CASES = ("1x32", "8x48")


def table() -> str:
    """Return a row for each form: what was recognized, what is stored, and latency, recognizing and memory beside the sibling."""
    rows = read("checkpoint-forms")["rows"]
    head = [
        "form",
        "recognized",
        "artifact / sibling, MB",
        "packed as `.tar.gz`, MB",
        *(f"latency / sibling, {case}" for case in _CASES),
        "recognizing, of the export",
        "peak memory / sibling",
    ]
    machines = [
        row[place]["machine"] if place else row["machine"] for row in rows.values() for place in ("latency", "")
    ]
    line, letters = sources("checkpoint-forms", machines)
    cells = [_row(name, row) for name, row in rows.items()]
    if any(letters):
        head = [*head, "machines of latency and of the rest"]
        pairs = zip(letters[::2], letters[1::2], strict=True)
        cells = [[*row, ", ".join(pair)] for row, pair in zip(cells, pairs, strict=True)]
    return markdown.join(markdown.table(head, cells), line)


def _row(name: str, row: dict[str, Any]) -> list[str]:
    sizes = " / ".join(markdown.megabytes(row["bytes"][which]) for which in ("form", "sibling"))
    return [
        name,
        markdown.sentence("; ".join(row["sentences"])) or "an ordinary model",
        sizes,
        " / ".join(markdown.megabytes(row["packed"][which]) for which in ("form", "sibling"))
        if "packed" in row
        else "not measured",
        *(markdown.interval(row["latency"][c]) if row["latency"]["threads"] == 1 else "not measured" for c in _CASES),
        f"{100 * max(row['recognizing_share'].values()):.1f} %",
        f"{row['peak_ratio']:.2f}",
    ]


def published() -> str:
    """Return what became of compressed models that others published."""
    rows = read("real-files")["rows"]
    line, _ = sources("real-files", [row["machine"] for row in rows.values()])
    cells = []
    for package, row in rows.items():
        if "refused" in row:
            cells.append([f"`{package}`", row["form"], f"refused: {markdown.sentence(row['refused'])}", "", ""])
            continue
        sizes = " / ".join(markdown.megabytes(row["bytes"][which]) for which in ("artifact", "source"))
        parity = "; ".join(f"{o['name']}: {o['max_abs']:.1e} ({o['cosine']:.6f})" for o in row["outputs"])
        said = markdown.sentence("; ".join(row["sentences"])) or "exported as it is"
        cells.append([f"`{package}`", row["form"], said, sizes, parity])
    head = ["package", "what it is", "what Headway said", "artifact / source, MB", "largest difference (cosine)"]
    return markdown.join(markdown.table(head, cells), line)


def stacks() -> str:
    """Return what became of compressed checkpoints that were taken further, and below it the reasons of refusals."""
    rows = read("stacked-forms")["rows"]
    follows = max((list(row["cells"]) for row in rows.values()), key=len)
    head = ["form", *(_FOLLOWS.get(name, f"`{name}`") for name in follows)]
    reasons: list[str] = []
    cells = [[name, *(_cell(row["cells"].get(f), reasons) for f in follows)] for name, row in rows.items()]
    table = markdown.table(head, cells)
    listed = "\n".join(f"{number}. {reason}" for number, reason in enumerate(reasons, 1))
    line, _ = sources("stacked-forms", [row["machine"] for row in rows.values()])
    return markdown.join(table, listed, line)


_FOLLOWS = {
    "a further cut": "`--speedup 1.5`, measured",
    "a low-rank split": "split to 40 % of the weights, measured",
    "int8": "`--quantize int8`",
    "tensorrt": "`tensorrt`, a plan",
}


def _cell(cell: dict[str, Any] | None, reasons: list[str]) -> str:
    """Return a cell: yes, the speed-up of a cut, or the number of a reason, which is put at the end of `reasons`."""
    if cell is None:
        return "not tried"
    if "refused" in cell:
        reason = markdown.sentence(cell["refused"].partition(": ")[2])
        if reason not in reasons:
            reasons.append(reason)
        return f"refused ({reasons.index(reason) + 1})"
    return f"{cell['speedup']:.2f}×" if "speedup" in cell else "yes"


def large() -> str:
    """Return what the checkpoint of 3 GB cost, with an adapter and without; a sentence where it was not measured."""
    figures = read("checkpoint-forms").get("large")
    if figures is None:
        return "Not measured yet."
    rows = [
        [
            name,
            f"{figures[key]['peak'] / 1e9:.1f} GB",
            f"{figures[key]['peak'] / figures['bytes']:.2f}",
        ]
        for name, key in (("the checkpoint alone", "plain"), ("with a LoRA adapter", "merged"))
    ]
    head = [f"{figures['bytes'] / 1e9:.1f} GB in {figures['shards']} shards", "peak memory", "of the weights"]
    return markdown.join(markdown.table(head, rows), f"*Machine: {told(figures['machine'])}.*")
