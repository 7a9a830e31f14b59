"""Draw a front as one HTML page that loads nothing: pointing at a bundle shows its settings, its figures, and how to make it again."""

from collections.abc import Callable, Sequence

from ... import __version__
from ..publish.html_report.axis_ticks import shown
from ..publish.html_report.report_page import Figure, Judged, Report, Section, Table, html_of
from ..publish.html_report.xy_chart import Point, Series, XyChart
from ..validate.merit import front_of
from .front_file import FrontBundle, FrontFile, figures_of
from .trial_record import TrialRecord

PAGE = "front.html"

_MOST_TRIALS = 500
"""So many trials stand in the table; the rest is counted."""


def front_page(front: FrontFile, records: Sequence[TrialRecord]) -> str:
    """Return the page of a front and of the trials behind it."""
    texts, source = front.texts, front.source
    workload = ", ".join(f"{batch}×{length}" for batch, length in front.workload["shapes"])
    words = (
        f"The source takes {source.ms:.2f} ms on {workload} ({front.workload['threads']} threads) and {source.mb:.1f} MB, and has "
        f"{source.quality:.2f} points of {front.metric}. A bundle is here because no other is at least as fast, as small and as near to "
        f"the source on {texts['choose']} texts to choose by. Its quality is that on {texts['judge']} other texts, which chose nothing: so "
        "by these figures one bundle may stand behind another. Lines are 95 % intervals."
    )
    sections = [
        Section("The front", _figures(front), words, [] if front.bundles else ["No trial has made a bundle so far."]),
        Section("Trials", [_trials(records)], _counted(front)),
    ]
    best = max(front.bundles, key=lambda bundle: bundle.merit, default=None)
    line = f"{len(front.bundles)} bundles on the front"
    if best is not None:
        line += f"; of most merit is {best.name}: {figures_of(best.measured, front.metric)}"
    commands = [f"# {bundle.name}: {bundle.what}\n{bundle.command_line}" for bundle in front.bundles]
    machine = [[name, str(value)] for name, value in front.machine.items()]
    node = f" on {front.node}" if front.node else ""
    return html_of(
        Report(
            f"{source.spec}: front for {front.target}{node}",
            [Judged(source.spec, "front", line)],
            sections,
            commands,
            f"Made by Headway {__version__} with seed {front.seed}, in {front.seconds / 60:.1f} minutes.",
            [Table(["figures of", "this machine"], machine)] if machine else [],
        )
    )


def _figures(front: FrontFile) -> list[Figure]:
    if not front.bundles:
        return []
    heads = ["bundle", "ms", "MB", front.metric, "points lost", "merit", "what was done"]
    cells = [
        [
            b.name,
            f"{b.measured.ms:.2f} ({b.measured.ms_low:.2f} to {b.measured.ms_high:.2f})",
            f"{b.measured.mb:.1f}",
            f"{b.measured.quality:.2f} ({b.measured.quality_low:.2f} to {b.measured.quality_high:.2f})",
            f"{b.measured.lost:.2f} ({b.measured.lost_low:.2f} to {b.measured.lost_high:.2f})",
            shown(b.merit),
            b.what,
        ]
        for b in front.bundles
    ]
    table = Table(heads, cells)
    return [
        _chart(front, "Quality against latency", lambda b: b.measured.ms, "milliseconds", _ms_interval, table),
        _chart(front, "Quality against size", lambda b: b.measured.mb, "megabytes", lambda _: None, None),
    ]


def _ms_interval(bundle: FrontBundle) -> tuple[float, float]:
    return bundle.measured.ms_low, bundle.measured.ms_high


def _chart(
    front: FrontFile,
    title: str,
    of: Callable[[FrontBundle], float],
    label: str,
    interval: Callable[[FrontBundle], tuple[float, float] | None],
    table: Table | None,
) -> Figure:
    points = [
        Point(
            of(b),
            b.measured.quality,
            f"{b.name}: {b.what}. {figures_of(b.measured, front.metric)}, merit {shown(b.merit)}. {b.command_line}",
            interval(b),
            (b.measured.quality_low, b.measured.quality_high),
        )
        for b in front.bundles
    ]
    source = front.source
    at = source.ms if label == "milliseconds" else source.mb
    whole = Point(at, source.quality, f"the source: {at:.2f} {label}, {source.quality:.2f} points", label="source")
    line = [(x, -y) for x, y in front_of([(p.x, -p.y) for p in points])]
    series = [Series("bundles", points, joined=False), Series("source", [whole], joined=False)]
    drawing = XyChart(title.lower(), series, label, front.metric, front=line)
    words = "Left and above is better; the dashed line joins what no other bundle beats in both."
    return Figure(title, words, drawing, ["bundles", "source"], table)


def _counted(front: FrontFile) -> str:
    words = {
        "bundle": "made a bundle that was on the front then",
        "stopped": "were stopped, since they could not reach it",
        "refused": "were refused by a pass or a gate",
    }
    return (
        "Of the trials " + ", ".join(f"{count} {words.get(name, name)}" for name, count in front.trials.items()) + "."
    )


def _trials(records: Sequence[TrialRecord]) -> Figure:
    rows = []
    for record in records[:_MOST_TRIALS]:
        expected = record.expected
        lost = f"{expected.lost:.2f}" if expected is not None and expected.lost is not None else ""
        ms = f"{expected.ms:.2f}" if expected is not None else ""
        rows.append(
            [f"{record.number:03d}", record.state, ms, lost, f"{record.seconds:.0f}", str(record.what), record.why]
        )
    heads = ["trial", "came to", "ms expected", "points lost to choose by", "seconds", "what was done", "why"]
    left = len(records) - len(rows)
    return Figure("All trials", f"{left} more are in the journal." if left > 0 else "", table=Table(heads, rows))
