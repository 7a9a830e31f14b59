"""Say what a report holds, and write it as one HTML page that loads nothing."""

import base64
import hashlib
from collections.abc import Sequence
from dataclasses import dataclass, field
from pathlib import Path

from .bar_chart import BarChart
from .xy_chart import XyChart

_TEMPLATES = Path(__file__).parent / "templates"
_SCRIPT = _TEMPLATES / "report.js"
MOST_BYTES = 1_000_000


@dataclass(frozen=True)
class Table:
    """Headings and rows of cells, all of them text."""

    heads: Sequence[str]
    rows: Sequence[Sequence[str]]


@dataclass(frozen=True)
class Figure:
    """A drawing, what it says in words, its legend, and its table. Without a drawing the table is open."""

    title: str
    words: str = ""
    drawing: XyChart | BarChart | None = None
    legend: Sequence[str] = ()
    table: Table | None = None


@dataclass(frozen=True)
class Section:
    """Figures of one question. `missing` are sentences on what was not measured, and how it can be."""

    title: str
    figures: Sequence[Figure] = ()
    words: str = ""
    missing: Sequence[str] = ()


@dataclass(frozen=True)
class Judged:
    """The verdict on a bundle: its `word` (pass, fail, undecided, or not judged), a sentence, and the table of its gates."""

    bundle: str
    word: str
    line: str
    gates: Table | None = None
    remarks: Sequence[str] = ()


@dataclass(frozen=True)
class Report:
    """A whole report: verdicts first. `commands` are those that give its figures again."""

    title: str
    verdicts: Sequence[Judged]
    sections: Sequence[Section]
    commands: Sequence[str] = ()
    made_by: str = ""
    facts: Sequence[Table] = field(default_factory=tuple)


def html_of(report: Report) -> str:
    """Return the page. Whatever names it shows are text in it: they are escaped, and the page's policy runs no script but its own.

    jinja2 is imported here, since reports alone need it.
    """
    import jinja2

    environment = jinja2.Environment(
        loader=jinja2.FileSystemLoader(_TEMPLATES),
        autoescape=True,
        undefined=jinja2.StrictUndefined,
        trim_blocks=True,
        lstrip_blocks=True,
    )
    script = _SCRIPT.read_text(encoding="utf-8")
    digest = base64.b64encode(hashlib.sha256(script.encode()).digest()).decode()
    return environment.get_template("report.html.j2").render(report=report, script=script, digest=digest)
