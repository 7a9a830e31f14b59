"""Draw the figures of a report as PNG, for a card that is read where no page is."""

from collections.abc import Sequence
from pathlib import Path
from typing import Any

from ..plots import COLORS, new_figure, save_figure
from .bar_chart import BarChart
from .xy_chart import XyChart


def write_png(chart: XyChart | BarChart, title: str, legend: Sequence[str], path: Path) -> None:
    """Draw a chart with matplotlib. `legend` names its colors, in their order; one alone is not named."""
    if isinstance(chart, BarChart):
        bars = sum(len(row.bars) for row in chart.rows)
        figure, axes = new_figure(7, 1.1 + 0.2 * bars + 0.1 * len(chart.rows))
        _bars(axes, chart)
    else:
        figure, axes = new_figure(7, 3.6)
        _lines(axes, chart)
    axes.set_title(title, fontsize=10)
    if len(legend) > 1:
        for number, name in enumerate(legend):
            axes.plot([], [], color=_color(number), linestyle=_dash(number), label=name)
        axes.legend(frameon=False, fontsize=8)
    save_figure(figure, path)


def _bars(axes: Any, chart: BarChart) -> None:
    y, places = 0.0, []
    for row in chart.rows:
        places.append(y + (len(row.bars) - 1) / 2)
        for bar in row.bars:
            axes.barh([y], [bar.end - bar.begin], left=bar.begin, color=_color(bar.color), height=0.85)
            edge = max(bar.begin, bar.end, *(bar.interval or ()))
            if bar.interval:
                axes.plot(bar.interval, [y, y], color="#333333", linewidth=1)
            axes.annotate(bar.words, (edge, y), textcoords="offset points", xytext=(4, 0), va="center", fontsize=8)
            y += 1
        y += 0.5
    if chart.reference is not None:
        axes.axvline(chart.reference, color="#333333", linewidth=1, linestyle="--")
    axes.axvline(0.0, color="#333333", linewidth=0.8)
    axes.margins(x=0.15)
    axes.set_yticks(places, [row.name for row in chart.rows], fontsize=8)
    axes.invert_yaxis()
    axes.set_xlabel(chart.label)


def _lines(axes: Any, chart: XyChart) -> None:
    from matplotlib.ticker import FuncFormatter, LogLocator, NullFormatter

    if len(chart.front) > 1:
        axes.plot(*zip(*chart.front, strict=True), color="#b5b5b5", linewidth=1)
    for number, one in enumerate(chart.series):
        style = {"color": _color(number), "linestyle": _dash(number) if one.joined else "", "linewidth": 1.3}
        marker = "o" if one.marks else ""
        axes.plot([p.x for p in one.points], [p.y for p in one.points], marker=marker, markersize=4, **style)
        for point in one.points:
            for ends, xs, ys in (
                (point.x_interval, point.x_interval, (point.y, point.y)),
                (point.y_interval, (point.x, point.x), point.y_interval),
            ):
                if ends:
                    axes.plot(xs, ys, color=_color(number), linewidth=0.8)
            if point.label:
                axes.annotate(point.label, (point.x, point.y), textcoords="offset points", xytext=(6, 6), fontsize=8)
    for axis, logarithmic in ((axes.xaxis, chart.x_log), (axes.yaxis, chart.y_log)):
        if logarithmic:
            axis.axes.set(**{f"{axis.axis_name}scale": "log"})
            axis.set_major_locator(LogLocator(subs=(1.0, 2.0, 5.0)))
            axis.set_major_formatter(FuncFormatter(lambda value, _: f"{value:g}"))
            axis.set_minor_formatter(NullFormatter())
    if chart.y_zero and not chart.y_log:
        axes.set_ylim(bottom=0)
    axes.grid(color="#dddddd", linewidth=0.6)
    axes.set_xlabel(chart.x_label)
    axes.set_ylabel(chart.y_label)


def _color(number: int) -> str:
    return COLORS[number % len(COLORS)]


def _dash(number: int) -> str:
    return "-" if number < len(COLORS) else "--"
