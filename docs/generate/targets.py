"""The targets, from the table that the recipe checks them by."""

import re

from . import markdown, places

_SHARED = {"ort-cuda": "ort-gpu", "ort-tensorrt": "ort-gpu"}
"""Targets that share a page."""

_DEVICES = {"cpu": "CPU", "gpu": "NVIDIA GPU", "phone": "phone", "browser": "browser"}


def names() -> list[str]:
    """Return the names of all targets, in the order of the code."""
    return list(places.load(places.TARGETS))


def page(target: str) -> str:
    """Return the page of a target, relative to `docs/`."""
    return f"targets/{_SHARED.get(target, target)}.md"


def table() -> str:
    """Return a table of all targets: the title of the page that describes each, and the options it takes."""
    rows = []
    for name, entry in places.load(places.TARGETS).items():
        rows.append(
            [
                f"[`{name}`](docs:{page(name)})",
                _title(page(name)),
                _DEVICES[entry.device],
                ", ".join(entry.platforms),
                ", ".join(f"`{dtype}`" for dtype in entry.dtypes),
                ", ".join(f"`{kernels}`" for kernels in entry.kernels),
            ]
        )
    head = ["target", "runtime", "runs on", "apps", "`--dtype`", "`--kernels`"]
    return markdown.table(head, rows)


def _title(name: str) -> str:
    text = (places.DOCS / name).read_text(encoding="utf-8")
    match = re.search(r"^# (.+)$", text, re.M)
    if match is None:
        raise ValueError(f"docs/{name}: has no title")
    return match[1]
