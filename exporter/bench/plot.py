"""Plot the result of a bench."""

from pathlib import Path

from ..publish.plots import COLORS, new_figure, save_figure
from .measure import BenchResult


def plot_bench(result: BenchResult, path: Path) -> None:
    """Draw grouped bars of median latency for each case, on a logarithmic scale, with whiskers to p90 and ratios above."""
    figure, axes = new_figure(1.5 + 1.6 * len(result.cases), 4.2)
    width = 0.8 / len(result.contestants)
    for i, name in enumerate(result.contestants):
        medians = [c.percentile(name, 50) for c in result.cases]
        above = [max(0.0, c.percentile(name, 90) - m) for c, m in zip(result.cases, medians, strict=True)]
        places = [k + (i - (len(result.contestants) - 1) / 2) * width for k in range(len(result.cases))]
        label = name if len(name) < 40 else "…" + name[-38:]
        axes.bar(
            places,
            medians,
            width * 0.92,
            yerr=[[0.0] * len(above), above],
            label=label,
            color=COLORS[i % len(COLORS)],
            ecolor="#444444",
            capsize=2,
        )
        for place, median, up, case in zip(places, medians, above, result.cases, strict=True):
            text = f"{median:.1f}" if i == 0 else f"{median:.1f}\n×{case.ratio(name)[0]:.2f}"
            axes.annotate(
                text, (place, median + up), textcoords="offset points", xytext=(0, 3), ha="center", fontsize=7
            )
    axes.set_yscale("log")
    axes.set_ylim(top=axes.get_ylim()[1] * 1.6)
    axes.set_xticks(range(len(result.cases)), [c.label for c in result.cases])
    axes.set_xlabel("batch × length in tokens")
    axes.set_ylabel("latency, ms (median, whisker to p90)")
    axes.set_title(
        f"{result.machine.get('cpu', '')}, {result.threads} thread{'s' if result.threads > 1 else ''}", fontsize=9
    )
    axes.legend(frameon=False, fontsize=8, loc="upper left")
    save_figure(figure, path)
