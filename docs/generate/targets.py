"""The targets a recipe can name, each with its page."""

import re

from . import markdown, places, recipe

_SHARED = {"ort-cuda": "ort-gpu", "ort-tensorrt": "ort-gpu"}
"""Targets that share a page."""


def names() -> list[str]:
    """Return the names of all targets, in the order of the code."""
    return recipe.schema()["properties"]["target"]["enum"]


def page(target: str) -> str:
    """Return the page of a target, relative to `docs/`."""
    return f"targets/{_SHARED.get(target, target)}.md"


def table() -> str:
    """Return a table of all targets with the title of the page that describes each."""
    rows = [[f"[`{target}`](docs:{page(target)})", _title(page(target))] for target in names()]
    return markdown.table(["target", "makes"], rows)


def _title(name: str) -> str:
    text = (places.DOCS / name).read_text(encoding="utf-8")
    match = re.search(r"^# (.+)$", text, re.M)
    if match is None:
        raise ValueError(f"docs/{name}: has no title")
    return match[1]
