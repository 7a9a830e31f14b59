"""Write what a gate found: JSON for programs, JUnit XML for CI's lists of tests, and Markdown for its summary page."""

import json
from collections.abc import Iterable
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any
from xml.etree import ElementTree

from ..publish.staging import output_folder
from ..publish.writing import written
from .estimates import Estimate, Verdict
from .gate_rows import LEAST_OF, Row, verdict_of

JSON_FILE, JUNIT_FILE, SUMMARY_FILE = "gate.json", "gate.xml", "gate.md"
_SCHEMA = 1


@dataclass
class GateResult:
    """The verdict on a bundle: its gates, remarks, and figures that no gate asked for. `crash` says what ended the run early.

    `artifact` is the fingerprint of the files that are opened, by which a report knows that the verdict is on these bytes.
    """

    bundle: str
    mode: str
    rows: list[Row] = field(default_factory=list)
    remarks: list[str] = field(default_factory=list)
    figures: dict[str, Any] = field(default_factory=dict)
    machine: dict[str, Any] = field(default_factory=dict)
    seconds: float = 0.0
    crash: str | None = None
    artifact: str = ""
    files: list[Path] = field(default_factory=list)

    @property
    def verdict(self) -> Verdict:
        """Pass, fail or undecided; what crashed fails."""
        return "fail" if self.crash else verdict_of(self.rows)

    @property
    def line(self) -> str:
        """The verdict in one line, with the gates that decided it."""
        if self.crash:
            return f"FAIL: {self.bundle}: {self.crash}"
        named = [row for row in self.rows if row.verdict == self.verdict]
        if not self.rows:
            return f"PASS: {self.bundle}: measured in {self.seconds:.0f} s, and no gate was given"
        what = "all gates" if self.verdict == "pass" else ", ".join(shown(row) for row in named)
        return f"{self.verdict.upper()}: {self.bundle}: {what} ({len(self.rows)} judged in {self.seconds:.0f} s)"

    def to_json(self) -> dict[str, Any]:
        """Return everything as plain values."""
        return {
            "schema": _SCHEMA,
            "verdict": self.verdict,
            "line": self.line,
            "bundle": self.bundle,
            "artifact": self.artifact,
            "mode": self.mode,
            "gates": [row.to_json() for row in self.rows],
            "remarks": self.remarks,
            "figures": self.figures,
            "machine": self.machine,
            "seconds": self.seconds,
            "crash": self.crash,
        }


def shown(row: Row) -> str:
    """Return a gate in words: its figure, and its limit."""
    if row.gate == "parity":
        return "parity"
    return f"{row.gate} {number(row.figure)} ({_limit(row)})"


def _limit(row: Row) -> str:
    """Return a limit with its direction and unit."""
    return f"{'≥' if row.gate in LEAST_OF else '≤'} {row.limit:.4g} {row.unit}".strip()


def number(figure: Estimate | None) -> str:
    """Return a figure with its interval; a dash where it is not given."""
    if figure is None:
        return "–"
    if figure.low == figure.high:
        return f"{figure.value:.4g}"
    return f"{figure.value:.4g} [{figure.low:.4g}, {figure.high:.4g}]"


def write_result(result: GateResult, folder: Path) -> list[Path]:
    """Write the three files into a folder, and return them."""
    contents = {
        JSON_FILE: json.dumps(result.to_json(), indent=2, ensure_ascii=False) + "\n",
        JUNIT_FILE: junit(result),
        SUMMARY_FILE: summary(result),
    }
    output_folder(folder)
    for name, content in contents.items():
        with written(folder):
            (folder / name).write_text(content, encoding="utf-8")
    return [folder / name for name in contents]


def junit(result: GateResult) -> str:
    """Return JUnit XML: one test for each gate. What is undecided is a failure of its own type, so that CI shows it."""
    bad = [row for row in result.rows if row.verdict != "pass"]
    suite = ElementTree.Element(
        "testsuite",
        name="headway gate",
        tests=str(len(result.rows) + bool(result.crash)),
        failures=str(len(bad)),
        errors=str(int(bool(result.crash))),
        time=f"{result.seconds:.1f}",
    )
    for row in result.rows:
        case = ElementTree.SubElement(suite, "testcase", classname=f"headway.{_plain(result.bundle)}", name=row.gate)
        if row.verdict != "pass":
            failure = ElementTree.SubElement(case, "failure", type=row.verdict, message=_plain(shown(row)))
            failure.text = _plain(row.note)
        else:
            ElementTree.SubElement(case, "system-out").text = _plain(f"{shown(row)}. {row.note}")
    if result.crash:
        case = ElementTree.SubElement(suite, "testcase", classname=f"headway.{_plain(result.bundle)}", name="run")
        ElementTree.SubElement(case, "error", type="crash", message=_plain(result.crash))
    root = ElementTree.Element("testsuites")
    root.append(suite)
    ElementTree.indent(root)
    return '<?xml version="1.0" encoding="utf-8"?>\n' + ElementTree.tostring(root, encoding="unicode") + "\n"


def _plain(text: str) -> str:
    """Return a text without the characters that XML cannot hold."""
    return "".join(c for c in text if c in "\t\n" or ord(c) >= 32)


def summary(result: GateResult) -> str:
    """Return Markdown: the verdict, the table of gates, and the remarks."""
    lines = [f"## {_cell(result.line)}", ""]
    if result.rows:
        lines += ["| gate | limit | measured, 95 % interval | verdict | |", "|---|---|---|---|---|"]
        lines += [f"| {' | '.join(cells(row))} |" for row in result.rows]
        lines.append("")
    lines += [f"- {_cell(remark)}" for remark in result.remarks]
    facts = result.machine
    if facts:
        lines += ["", f"{facts['cpu']}, {facts['system']}, {facts['threads']} thread(s), mode {result.mode}."]
    return "\n".join(lines) + "\n"


def cells(row: Row) -> Iterable[str]:
    """Return the cells of a gate's row: name, limit, figure, verdict, note."""
    limit = "yes" if row.gate == "parity" else _limit(row)
    figure = ("yes" if row.figure and row.figure.value else "no") if row.gate == "parity" else number(row.figure)
    return [row.gate, limit, figure, row.verdict, _cell(row.note)]


def _cell(text: str) -> str:
    return text.replace("|", "\\|").replace("\n", " ")
