"""Show latency: how it is spread, how it grows with length, batch and threads, and what a server reaches."""

from collections.abc import Iterator, Mapping, Sequence
from typing import Any

import numpy as np

from ...publish.html_report.axis_ticks import shown
from ...publish.html_report.report_page import Figure, Section, Table
from ...publish.html_report.xy_chart import Point, Series, XyChart
from ..estimates import Estimate
from ..percentiles import median_of
from .cells import by_bundle, ends, ranged
from .report_inputs import ReportBundle

_SINGLE = ("single-stream", "closed-loop")
_LEVELS = (1, 2, 5, 10, 20, 30, 40, 50, 60, 70, 80, 90, 95, 98, 99, 99.5)
_LEAST_BEYOND = 5
_LOADS = {"server": "a server (--scenario server)", "sweep": "threads and batches, and warm-up (--sweep)"}
_WIDE = 6.0
"""An axis is logarithmic where its largest value is so many times its smallest."""


def latency_section(bundles: Sequence[ReportBundle]) -> Section:
    """Return how latency is spread, by scenario, and what it is by length and batch."""
    drawn = [*_spread(bundles), *_by_shape(bundles)]
    spread, shapes = "headway gate --scenario single-stream", "headway bench --save"
    lacking = [
        (b.name, f"the spread of latency was not measured; {spread} does it.") for b in bundles if not _scenario(b)
    ]
    lacking += [
        (b.name, f"latency by length and batch was not measured; {shapes} does it.") for b in bundles if not b.cases
    ]
    return Section("Latency", drawn, missing=by_bundle(lacking))


def _scenario(bundle: ReportBundle) -> Mapping[str, Any] | None:
    figures = bundle.gate["figures"] if bundle.gate else {}
    return next((figures[name] for name in _SINGLE if figures.get(name, {}).get("latencies_ms")), None)


def _spread(bundles: Sequence[ReportBundle]) -> Iterator[Figure]:
    series, rows, names = [], [], []
    for bundle in bundles:
        scenario = _scenario(bundle)
        if scenario is None:
            continue
        times = np.array(scenario["latencies_ms"])
        levels = [q for q in _LEVELS if len(times) * min(q, 100 - q) / 100 >= _LEAST_BEYOND]
        points = [
            Point(
                float(np.percentile(times, q)), q, f"{bundle.name}: {q:g} % within {shown(np.percentile(times, q))} ms"
            )
            for q in levels
        ]
        if points:
            series.append(Series(bundle.name, points, marks=False))
            names.append(bundle.name)
        given = scenario["percentiles"]
        rows.append([bundle.name, str(len(times)), *(ranged(given.get(f"p{q}_ms")) for q in (50, 90, 99))])
    if not rows:
        return
    words = "Single texts, one after another: how many percent of the answers took at most so long. A dash stands for too few samples."
    table = Table(["bundle", "samples", "p50, ms", "p90, ms", "p99, ms"], rows)
    if not series:
        yield Figure("Spread of latency", words, table=table)
        return
    drawing = XyChart(
        "spread of latency", series, "ms", "percent of the answers", x_log=_wide(p.x for s in series for p in s.points)
    )
    yield Figure("Spread of latency", words, drawing, names, table)


def _wide(values: Any) -> bool:
    given = list(values)
    return max(given) > _WIDE * min(given) > 0


def _median(case: Mapping[str, Any], name: str) -> Estimate:
    times = case["milliseconds"][name]
    value = float(np.median(times))
    return median_of(times) or Estimate(value, min(times), max(times), len(times))


def _by_shape(bundles: Sequence[ReportBundle]) -> Iterator[Figure]:
    with_cases = [bundle for bundle in bundles if bundle.cases]
    if not with_cases:
        return
    rows = []
    for bundle in with_cases:
        for case in bundle.cases:
            for name, times in case["milliseconds"].items():
                if times and min(times) > 0:
                    own = bundle.name if name == bundle.contestant else f"beside it: {name}"
                    figure = _median(case, name)
                    rate = shown(case["tokens"] / figure.value * 1e3)
                    rows.append(
                        [own, case["label"], f"{100 * case['padding']:.0f} %", str(len(times)), ranged(figure), rate]
                    )
    table = Table(["model", "texts × tokens", "padding", "rounds", "median, ms", "tokens/s"], rows)
    for title, axis, pick in (
        ("Latency against length", "tokens of a text", lambda c: c["tokens"] if c["batch"] == 1 else None),
        (
            "Latency against batch",
            "texts in a batch of 128 tokens",
            lambda c: c["batch"] if c["tokens"] == 128 * c["batch"] else None,
        ),
    ):
        series = [_line(bundle, pick) for bundle in with_cases]
        series = [one for one in series if len(one.points) > 1]
        if series:
            drawing = XyChart(title, series, axis, "ms", x_log=True, y_log=True)
            yield Figure(
                title,
                "Medians with their intervals; both axes are logarithmic.",
                drawing,
                [s.name for s in series],
                table,
            )


def _line(bundle: ReportBundle, pick: Any) -> Series:
    points = []
    for case in bundle.cases:
        x = pick(case)
        if x:
            figure = _median(case, bundle.contestant)
            tip = f"{bundle.name}, {case['label']}: {ranged(figure)} ms"
            points.append(Point(x, figure.value, tip, y_interval=(figure.low, figure.high)))
    return Series(bundle.name, sorted(points, key=_x))


def load_section(bundles: Sequence[ReportBundle]) -> Section:
    """Return texts a second beside p99: of a server by its load, and by threads and batch."""
    drawn, missing = list(_servers(bundles)), []
    for bundle in bundles:
        figures = bundle.gate["figures"] if bundle.gate else {}
        drawn += _sweep(bundle, figures.get("sweep") or [])
        drawn += _warm_up(bundle, figures.get("warm_up_ms") or [])
        lacking = [words for key, words in _LOADS.items() if not figures.get(key)]
        if lacking:
            missing.append((bundle.name, f"not measured: {'; '.join(lacking)}, by headway gate."))
    return Section("Throughput and load", drawn, missing=by_bundle(missing))


def _servers(bundles: Sequence[ReportBundle]) -> Iterator[Figure]:
    late, tails, rows = [], [], []
    for bundle in bundles:
        server = bundle.gate["figures"].get("server") if bundle.gate else None
        if server is None:
            continue
        shares, measured = [], []
        given = server.get("p99_ms") or []
        for number, trial in enumerate(server["capacity"]["trials"]):
            if len(trial) != 3 or trial[2] <= 0:
                continue
            rate, share, tail = trial[0], 100 * trial[1] / trial[2], given[number] if number < len(given) else None
            rows.append([bundle.name, f"{rate:.1f}", f"{share:.1f} % of {trial[2]:.0f}", ranged(tail)])
            shares.append(Point(rate, share, f"{bundle.name}: {rate:.1f} queries/s, {share:.1f} % late"))
            if tail is not None:
                tip = f"{bundle.name}: {rate:.1f} queries/s, p99 {ranged(tail)} ms"
                measured.append(Point(rate, tail["value"], tip, y_interval=ends(tail)))
        bound = shown(server["bound_ms"])
        rows.append(
            [
                bundle.name,
                f"{server['capacity']['rate']:.1f}",
                "the highest rate at which at most 1 % is late",
                f"≤ {bound}",
            ]
        )
        late += [Series(f"{bundle.name}, bound {bound} ms", sorted(shares, key=_x))] if shares else []
        tails += [Series(bundle.name, sorted(measured, key=_x))] if measured else []
    table = Table(["bundle", "queries/s", "late", "p99, ms"], rows)
    words = "Texts that arrive at random times, answered one by one. These are the rates that the search for the highest one tried."
    if late:
        drawing = XyChart("late answers by load", late, "queries a second", "percent late", y_zero=True)
        yield Figure("A server's late answers by its load", words, drawing, [one.name for one in late], table)
    if tails:
        log = _wide(point.y for one in tails for point in one.points)
        drawing = XyChart("p99 by load", tails, "queries a second", "p99, ms", y_log=log)
        yield Figure("A server's p99 by its load", words, drawing, [one.name for one in tails], table)


def _x(point: Point) -> float:
    return point.x


def _sweep(bundle: ReportBundle, cells: Sequence[Mapping[str, Any]]) -> Iterator[Figure]:
    if not cells:
        return
    rows = [
        [
            str(c["threads"]),
            str(c["batch"]),
            str(c["samples"]),
            ranged(c["p50_ms"]),
            ranged(c["p99_ms"]),
            ranged(c["texts_per_second"]),
        ]
        for c in cells
    ]
    table = Table(["threads", "texts in a batch", "batches", "p50, ms", "p99, ms", "texts/s"], rows)
    by_threads = sorted({c["threads"] for c in cells})
    for title, axis, key, log in (
        ("Throughput against batch", "texts in a batch", "batch", True),
        ("Throughput against p99", "p99 of a batch, ms", "p99_ms", True),
    ):
        series = []
        for threads in by_threads:
            points = []
            for cell in cells:
                rate, x = cell["texts_per_second"], cell[key]
                if cell["threads"] == threads and rate is not None and x is not None:
                    where = float(x if key == "batch" else x["value"])
                    tip = f"{threads} thread(s), batch {cell['batch']}: {ranged(rate)} texts/s, p99 {ranged(cell['p99_ms'])} ms"
                    points.append(Point(where, rate["value"], tip, y_interval=ends(rate)))
            if points:
                series.append(Series(f"{threads} thread{'s' if threads > 1 else ''}", sorted(points, key=_x)))
        if series:
            drawing = XyChart(title, series, axis, "texts/s", x_log=log, y_zero=True)
            yield Figure(f"{bundle.name}: {title.lower()}", "", drawing, [s.name for s in series], table)


def _warm_up(bundle: ReportBundle, curves: Sequence[Sequence[float]]) -> Iterator[Figure]:
    curves = [curve for curve in curves if len(curve) > 1 and min(curve) > 0]
    if not curves:
        return
    length = min(map(len, curves))
    times = np.array([curve[:length] for curve in curves])
    middle, low, high = (f(times, axis=0) for f in (np.median, np.min, np.max))
    at = [i for i in range(length) if i < 10 or i % max(length // 20, 1) == 0]
    points = [
        Point(
            i + 1,
            float(middle[i]),
            f"run {i + 1}: {shown(middle[i])} ms, {shown(low[i])} to {shown(high[i])}",
            y_interval=(float(low[i]), float(high[i])),
        )
        for i in at
    ]
    rows = [[str(i + 1), shown(middle[i]), shown(low[i]), shown(high[i])] for i in at]
    drawing = XyChart(
        "warm-up", [Series("", points)], "run of a process, from its first", "ms", x_log=True, y_log=_wide(middle)
    )
    words = f"The same text again and again in {len(curves)} new process(es): the median of them, from the fastest to the slowest."
    yield Figure(f"{bundle.name}: warm-up", words, drawing, table=Table(["run", "median, ms", "least", "most"], rows))
