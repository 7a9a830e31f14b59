"""Find the generated parts of pages and fill them."""

import os
import re
from pathlib import Path

from .blocks import BLOCKS
from .places import DOCS, ROOT

_BLOCK = re.compile(r"(?P<start>^<!-- generated: (?P<name>\S+) -->\n)(?P<body>.*?)(?P<end>^<!-- end -->$)", re.M | re.S)
_LINK = re.compile(r"\]\(docs:([^)]+)\)")
_ANY_START = re.compile(r"^\s*<!-- generated: (\S+) -->\s*$", re.M)


def all_pages() -> list[Path]:
    """Return README.md and every page below `docs/`."""
    return [ROOT / "README.md", *sorted(DOCS.rglob("*.md"))]


def names(text: str) -> list[str]:
    """Return the names of the generated parts of a page. ValueError names one without its end or with an unknown name."""
    complete = [match["name"] for match in _BLOCK.finditer(text)]
    for name in _ANY_START.findall(text):
        if name not in complete:
            raise ValueError(f"<!-- generated: {name} --> has no <!-- end --> on a line of its own")
        if name not in BLOCKS:
            raise ValueError(f"<!-- generated: {name} --> is unknown; known are {', '.join(sorted(BLOCKS))}")
    return complete


def filled(text: str, page: Path) -> str:
    """Return the text of `page` with all generated parts made anew."""
    names(text)

    def fill(match: re.Match[str]) -> str:
        content = _LINK.sub(lambda link: f"]({_relative(link[1], page)})", BLOCKS[match["name"]]().strip())
        return f"{match['start']}\n{content}\n\n{match['end']}"

    return _BLOCK.sub(fill, text)


def _relative(target: str, page: Path) -> str:
    """Return a link to a page below `docs/` as `page` has to write it."""
    return Path(os.path.relpath(DOCS / target, page.parent)).as_posix()


def update(path: Path, *, write: bool) -> bool:
    """Return whether a page was out of date; with `write`, bring it up to date."""
    before = path.read_text(encoding="utf-8")
    try:
        after = filled(before, path)
    except ValueError as error:
        raise ValueError(f"{path.relative_to(ROOT)}: {error}") from error
    if write and before != after:
        path.write_text(after, encoding="utf-8")
    return before != after
