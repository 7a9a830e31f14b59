"""Show verdicts, and what a gate measured besides: cold start, memory, size."""

from collections.abc import Sequence

import numpy as np

from ...publish.html_report.axis_ticks import shown
from ...publish.html_report.bar_chart import Bar, BarChart, Row
from ...publish.html_report.report_page import Figure, Judged, Section, Table
from .cells import DASH, by_bundle, ranged
from .report_inputs import ReportBundle

_PARTS = (("start_ms", "start"), ("import_ms", "import"), ("load_ms", "load"), ("first_run_ms", "first run"))


def verdict_on(bundle: ReportBundle) -> Judged:
    """Return the verdict on a bundle, or that there is none."""
    gate = bundle.gate
    if gate is None:
        why = (
            "The verdict that is stored is on other bytes: it was changed since."
            if bundle.outdated
            else "No verdict is stored."
        )
        return Judged(
            bundle.name, "not judged", f"{why} Run headway gate with --out, and give that folder with --verdict."
        )
    rows = []
    for row in gate["gates"]:
        limit = f"{'at least' if row['at_least'] else 'at most'} {shown(row['limit'])} {row['unit']}".strip()
        figure = f"{ranged(row['figure'])} {row['unit']}".strip() if row["figure"] else DASH
        if row["gate"] == "parity":
            limit, figure = "agrees", "yes" if row["verdict"] == "pass" else "no"
        rows.append([row["gate"], row["verdict"], figure, limit, row["note"]])
    table = Table(["gate", "verdict", "measured, 95 % interval", "limit", ""], rows) if rows else None
    line = gate["line"].partition(f"{gate['bundle']}: ")[2] or gate["line"]
    word = gate["verdict"] if gate["gates"] or gate["crash"] else "not judged"
    return Judged(bundle.name, word, line, table, gate["remarks"])


def process_section(bundles: Sequence[ReportBundle]) -> Section:
    """Return cold starts and memory, as the processes of a gate showed them."""
    rows, cells, missing = [], [], []
    for bundle in bundles:
        figures = bundle.gate["figures"] if bundle.gate else {}
        starts = figures.get("cold_starts") or []
        starts = [start for start in starts if all(name in start for name, _ in _PARTS)]
        if not starts:
            missing.append((bundle.name, "cold start and memory were not measured; headway gate measures them."))
            continue
        middle = {name: float(np.median([start[name] for start in starts])) for name, _ in _PARTS}
        bars = [
            Bar(
                middle[name],
                f"{bundle.name}, {words}: {middle[name]:.1f} ms",
                words=f"{words} {shown(middle[name])}",
                color=i,
            )
            for i, (name, words) in enumerate(_PARTS)
        ]
        rows.append(Row(bundle.name, bars))
        memory = figures.get("peak_rss_mb")
        cells.append([bundle.name, *(f"{middle[name]:.1f}" for name, _ in _PARTS), str(len(starts)), ranged(memory)])
    heads = ["bundle", *(f"{words}, ms" for _, words in _PARTS), "processes", "peak memory, MB"]
    drawn = (
        [
            Figure(
                "Cold start, in its parts",
                "Medians over processes. Starting is that of Python; importing, loading and the first run follow.",
                BarChart("cold start by part", rows, "ms"),
                table=Table(heads, cells),
            )
        ]
        if rows
        else []
    )
    return Section("Cold start and memory", drawn, missing=by_bundle(missing))
