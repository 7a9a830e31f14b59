"""Plot the result of a bench."""

from pathlib import Path
from typing import Any

from ..publish.plots import COLORS, new_figure, save_figure
from .measure import BenchResult, CaseResult

_SHOWN = 36
"""Characters of a name that are shown: a path's end tells more than its beginning."""


def plot_bench(result: BenchResult, path: Path) -> None:
    """Draw a panel for each case: a dot for each contestant's median, a line to its p90, milliseconds and ratio beside it.

    Contestants are told apart by their names, not by colors, of which there are too few. The scale is logarithmic.
    """
    names = result.contestants
    figure, panels = new_figure(2.2 + 2.3 * len(result.cases), 1.3 + 0.34 * len(names), columns=len(result.cases))
    for axes, case in zip(panels if len(result.cases) > 1 else [panels], result.cases, strict=True):
        _panel(axes, case, names)
    first = panels[0] if len(result.cases) > 1 else panels
    first.set_yticks(range(len(names)), [name if len(name) <= _SHOWN else "…" + name[2 - _SHOWN :] for name in names])
    first.invert_yaxis()
    threads = f"{result.threads} thread{'s' if result.threads > 1 else ''}"
    figure.suptitle(f"{result.machine.get('cpu', '')}, {threads}", fontsize=9)
    figure.supxlabel("latency in ms, logarithmic scale: median, line to p90, ratio to the first", fontsize=9)
    save_figure(figure, path)


def _panel(draw: Any, case: CaseResult, names: list[str]) -> None:
    from matplotlib.ticker import FuncFormatter, LogLocator, NullFormatter

    medians = [case.percentile(name, 50) for name in names]
    slowest = [max(case.percentile(name, 90), median) for name, median in zip(names, medians, strict=True)]
    for row, (name, median, slow) in enumerate(zip(names, medians, slowest, strict=True)):
        color = COLORS[0] if row == 0 else COLORS[1]
        draw.plot([median, slow], [row, row], color=color, linewidth=1.2)
        draw.plot([median], [row], marker="o", color=color, markersize=5)
        ratio = "" if row == 0 else f"  ×{case.ratio(name)[0]:.2f}"
        draw.annotate(
            f"{_figure(median)}{ratio}", (slow, row), textcoords="offset points", xytext=(6, 0), va="center", fontsize=8
        )
    low, high = min(medians), max(slowest)
    span = max(high / low, 2.0)
    draw.set_xscale("log")
    draw.set_xlim(low / span**0.15, high * span**1.1)  # room for the words behind the slowest
    draw.set_ylim(-0.6, len(names) - 0.4)
    draw.xaxis.set_major_locator(
        LogLocator(subs=(1.0, 2.0, 5.0) if span < 3 else (1.0, 3.0) if span < 8 else (1.0,), numticks=4)
    )
    draw.xaxis.set_major_formatter(FuncFormatter(lambda value, _: f"{value:g}"))
    draw.xaxis.set_minor_formatter(NullFormatter())
    draw.tick_params(axis="y", length=0)
    draw.tick_params(axis="x", labelsize=8)
    draw.grid(axis="x", color="#dddddd", linewidth=0.6)
    draw.set_title(f"{case.label}", fontsize=9)


def _figure(ms: float) -> str:
    return f"{ms:,.0f}" if ms >= 100 else f"{ms:.3g}"
