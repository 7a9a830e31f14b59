"""Put bundles of one model beside each other: quality against latency, and their merit."""

import math
from collections.abc import Mapping, Sequence
from typing import Any

from ...publish.html_report.axis_ticks import shown
from ...publish.html_report.bar_chart import Bar, BarChart, Row
from ...publish.html_report.report_page import Figure, Section, Table
from ...publish.html_report.xy_chart import Point, Series, XyChart
from ..estimates import Estimate
from ..merit import POINTS_OF_A_HALVING, Standing, front_of, ordered
from .cells import ranged
from .report_inputs import ReportBundle

_MOST_LOST = 200.0
"""Points, of which quality has -100 to 100."""


def standing_of(bundle: ReportBundle) -> Standing | str:
    """Return how a bundle stands beside its source, or a sentence on why that is not known.

    A float32 export without passes is the source itself. Of a compression all figures are those that its manifest stores.
    """
    compression = bundle.manifest.compression
    if compression is None:
        if bundle.manifest.parity["dtype"] == "float32":
            return Standing(Estimate.exact(1.0), 1.0, Estimate.exact(0.0))
        return f"{bundle.name}: its speed beside the source is not stored, since no pass made it."
    first, last = compression["stages"][0], compression["stages"][-1]
    if min(first["ms"], last["ms"], first["nbytes"], last["nbytes"]) <= 0:
        return f"{bundle.name}: its manifest has no latency or no size."
    lost = _lost(compression)
    if not all(abs(points) <= _MOST_LOST for points in (lost.value, lost.low, lost.high)):
        return f"{bundle.name}: its manifest has a loss of more points than there are."
    speed = first["ms"] / last["ms"]
    low, high = _ratio_ends(last) or (1 / speed, 1 / speed)
    return Standing(Estimate(speed, min(1 / high, speed), max(1 / low, speed)), first["nbytes"] / last["nbytes"], lost)


def _ratio_ends(stage: Mapping[str, Any]) -> tuple[float, float] | None:
    """Return the interval of a stage's latency as a part of the source's."""
    match stage.get("latency_ratio"):
        case [int() | float() as low, int() | float() as high] if 0 < low <= high < math.inf:
            return float(low), float(high)
    return None


def _lost(compression: Mapping[str, Any]) -> Estimate:
    """Return the points that are lost on the text where most is."""
    agreement = compression.get("agreement") or {"files": ()}
    for one in agreement["files"]:
        if one["data"] == agreement["worst"]:
            return Estimate(one["lost"], one["lost_low"], one["lost_high"], one["texts"])
    return Estimate.exact(compression["source_quality"] - compression["stages"][-1]["quality"])


def compare_section(bundles: Sequence[ReportBundle]) -> Section:
    """Return the section that orders bundles. What is no bundle of the first one's model, or judged by another measure, is named."""
    fingerprint, task = bundles[0].manifest.source["fingerprint"], bundles[0].manifest.task
    metric = next((b.manifest.compression["metric"] for b in bundles if b.manifest.compression), "quality")
    standings: list[tuple[str, Standing]] = []
    measured: list[tuple[str, Any]] = []
    missing = []
    for bundle in bundles:
        compression = bundle.manifest.compression
        if (bundle.manifest.source["fingerprint"], bundle.manifest.task) != (fingerprint, task):
            missing.append(f"{bundle.name}: is another model than {bundles[0].name}, and is left out here.")
        elif compression is not None and compression["metric"] != metric:
            missing.append(f"{bundle.name}: quality is {compression['metric']}, not {metric}; left out here.")
        elif isinstance(standing := standing_of(bundle), str):
            missing.append(standing)
        else:
            standings.append((bundle.name, standing))
            measured.append((bundle.name, _measured_on(bundle)))
    known = [(name, about) for name, about in measured if about is not None]
    missing += [
        f"{name}: was measured on other batches, threads or text than {known[0][0]}; compare them with care."
        for name, about in known
        if about != known[0][1]
    ]
    drawn = [_merit(standings), _quality(standings, metric)] if standings else []
    words = (
        "Merit is the geometric mean of the speed gained and the bytes saved, halved for every "
        f"{POINTS_OF_A_HALVING:g} points of quality that are lost. The source has 1. It assumes that half the time is worth as much as "
        "half the bytes. It hides which of the three a bundle owes it to: the table below the figure says so."
    )
    return Section("Bundles beside each other", drawn, words if drawn else "", missing)


def _measured_on(bundle: ReportBundle) -> Any:
    """Return what a bundle's figures were taken on; None where they are those of the source, by definition."""
    compression = bundle.manifest.compression
    if compression is None:
        return None
    files = (compression.get("agreement") or {"files": ()})["files"]
    return compression["workload"], compression.get("measured_in"), sorted(str(f["data"]) for f in files)


def _merit(standings: Sequence[tuple[str, Standing]]) -> Figure:
    rows, cells = [], []
    for name, standing, figure, apart in ordered(standings):
        tip = f"{name}: merit {ranged(figure)}"
        rows.append(Row(name, [Bar(figure.value, tip, words=shown(figure.value), interval=(figure.low, figure.high))]))
        note = "" if apart else "not told apart from one above"
        cells.append(
            [
                name,
                ranged(figure),
                f"{ranged(standing.speed)} ×",
                f"{shown(standing.saving)} ×",
                ranged(standing.lost),
                note,
            ]
        )
    heads = ["bundle", "merit", "speed gained", "bytes saved", "points lost", ""]
    drawing = BarChart("merit", rows, "merit; the source has 1", reference=1.0)
    return Figure("Merit", "The best comes first. Lines are intervals.", drawing, table=Table(heads, cells))


def _quality(standings: Sequence[tuple[str, Standing]], metric: str) -> Figure:
    points, cells = [], []
    front = front_of([(1 / one.speed.value, one.lost.value) for _, one in standings])
    for name, one in standings:
        latency = Estimate(1 / one.speed.value, 1 / one.speed.high, 1 / one.speed.low)
        tip = f"{name}: latency {ranged(latency)} of the source's, {ranged(one.lost)} points lost"
        points.append(
            Point(latency.value, one.lost.value, tip, (latency.low, latency.high), (one.lost.low, one.lost.high), name)
        )
        on_front = "yes" if (latency.value, one.lost.value) in front else "no"
        cells.append([name, ranged(latency), ranged(one.lost), on_front])
    drawing = XyChart(
        "quality against latency",
        [Series("", points, joined=False)],
        "latency, part of the source's",
        "points lost",
        front=front,
    )
    words = f"Quality is {metric}. Left and below is better; the dashed line joins what no other bundle beats in both."
    return Figure(
        "Quality against latency",
        words,
        drawing,
        table=Table(["bundle", "latency, part of the source's", "points lost", "on the front"], cells),
    )
