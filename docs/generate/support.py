"""Which families and tasks are exported, from the data that the tests of exporting run over."""

import sys
from importlib import import_module
from typing import Any

from . import markdown, places
from .benchmarks.results import read, source

_FUSED = "one `Attention` node per layer"
_APART = "ordinary operators (disentangled)"


def tested() -> Any:
    """Return the module with the data that the tests of exporting run over."""
    if str(places.ROOT) not in sys.path:
        sys.path.insert(0, str(places.ROOT))
    return import_module("tests.support.supported")


def matrix() -> str:
    """Return the table of families and tasks: `yes` where a test exports it and compares it with its source."""
    data = tested()
    rows = []
    for family in data.FAMILIES:
        cells = ["yes" if (family, task) in data.PAIRS else "no class" for task in data.TASKS]
        rows.append([family, *cells, _APART if family in data.DISENTANGLED else _FUSED])
    return markdown.table(["family", *data.TASKS, "attention"], rows)


def short() -> str:
    """Return the table for the README: one row per family."""
    data = tested()
    rows = []
    for family in data.FAMILIES:
        tasks = [task for task in data.TASKS if (family, task) in data.PAIRS]
        told = f"all {len(tasks)}" if len(tasks) == len(data.TASKS) else ", ".join(tasks)
        rows.append([family, told, _APART if family in data.DISENTANGLED else _FUSED])
    return markdown.table(["family", "tasks", "attention in the graph"], rows)


def families() -> str:
    """Return the table of families and passes, as measured on small random models: `yes`, or in few words why not."""
    rows = []
    for family, row in read("families")["families"].items():
        if "refused" in row:
            continue
        cells = [_short(value) for value in row["cells"].values()]
        rows.append([family, f"`{row['class']}`", f"{row['largest_difference']:.0e}", *cells])
    head = ["family", "class", "largest difference", *next(iter(read("families")["families"].values()))["cells"]]
    return markdown.join(markdown.table(head, rows), source("families"))


def refused_families() -> str:
    """Return the table of families that are not exported, with the reason that the export gives."""
    rows = [
        [family, f"`{row['class']}`", row["refused"]]
        for family, row in read("families")["families"].items()
        if "refused" in row
    ]
    return markdown.table(["family", "class", "reason"], rows)


def _short(cell: str) -> str:
    """Return a cell without the words of a refusal, which the export gives in full."""
    return "refused" if cell.startswith("refused") else cell
