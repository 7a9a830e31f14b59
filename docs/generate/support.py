"""Which families and tasks are exported, from the data that the tests of exporting run over."""

import sys
from importlib import import_module
from typing import Any

from . import markdown, places

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
