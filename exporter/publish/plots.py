"""Draw the plots of a card."""

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any


def plot_sensitivity(groups: Sequence[Mapping[str, Any]], unit: str, floor: float, path: Path) -> None:
    """Plot a bar for each group, in the order of execution, and a line where rounding alone would end."""
    figure, axes = new_figure(7, 0.8 + 0.22 * len(groups))
    axes.barh(range(len(groups)), [g["error"] for g in groups], color=COLORS[0], height=0.7)
    axes.set_yticks(range(len(groups)), [g["name"] for g in groups], fontsize=8)
    axes.invert_yaxis()
    axes.set_xlabel(f"error of the outputs where this group alone is quantized,\n{unit}")  # in one line it would be cut
    if floor > 0:
        axes.axvline(floor, color=COLORS[5], linewidth=1, linestyle="--")
    save_figure(figure, path)


def plot_stages(stages: Sequence[Mapping[str, Any]], metric: str, path: Path) -> None:
    """Plot bytes, milliseconds and quality after each pass, side by side."""
    figure, all_axes = new_figure(10, 0.7 + 0.42 * len(stages), columns=3)
    names = [s["name"] for s in stages]
    series = (
        ("MB", [s["nbytes"] / 1e6 for s in stages]),
        ("ms", [s["ms"] for s in stages]),
        (f"{metric}, points", [s["quality"] for s in stages]),
    )
    for axes, (label, values), color in zip(all_axes, series, COLORS, strict=False):
        axes.barh(range(len(stages)), values, color=color, height=0.7)
        for i, value in enumerate(values):
            axes.annotate(
                f"{value:.4g}", (max(value, 0.0), i), textcoords="offset points", xytext=(3, 0), va="center", fontsize=8
            )
        axes.set_xlim(min(0.0, *values) * 1.1, (max(0.0, *values) or 1.0) * 1.3)
        axes.locator_params(axis="x", nbins=4)  # more would touch
        axes.set_yticks(range(len(stages)), names)
        axes.set_xlabel(label)
    all_axes[0].invert_yaxis()
    save_figure(figure, path)


def plot_curve(rows: Sequence[Mapping[str, Any]], metric: str, path: Path) -> None:
    """Plot the points of quality that each speed costs; the interval of the speed as a line. Rows are those of `curve.json`."""
    figure, axes = new_figure(6, 3.4)
    speeds, drops = [r["speedup"] for r in rows], [r["drop"] for r in rows]
    axes.plot(speeds, drops, color=COLORS[0], linewidth=1)
    widths = [[r["speedup"] - r["interval"][0], r["interval"][1] - r["speedup"]] for r in rows]
    axes.errorbar(
        speeds, drops, xerr=[[max(w[i], 0.0) for w in widths] for i in (0, 1)], fmt="o", color=COLORS[0], markersize=4
    )
    for row in rows:
        axes.annotate(
            f"{row['mb']:.1f} MB", (row["speedup"], row["drop"]), textcoords="offset points", xytext=(6, 6), fontsize=8
        )
    axes.margins(x=0.15, y=0.2)
    axes.set_xlabel("times as fast as the source, measured")
    axes.set_ylabel(f"points of {metric} lost", fontsize=9)
    save_figure(figure, path)


def plot_losses(losses: Sequence[tuple[float, float]], path: Path) -> None:
    """Plot the loss of the recovery over time, with its running mean."""
    from matplotlib.ticker import LogFormatter

    figure, axes = new_figure(6, 3)
    minutes = [s / 60 for s, _ in losses]
    values = [v for _, v in losses]
    axes.plot(minutes, values, color="#b5b5b5", linewidth=0.7)
    running, smooth = values[0], []
    for value in values:
        running = 0.97 * running + 0.03 * value
        smooth.append(running)
    axes.plot(minutes, smooth, color=COLORS[0])
    axes.set_yscale("log")
    axes.yaxis.set_major_formatter(LogFormatter())  # the default one writes formulas, which are not drawn
    axes.yaxis.set_minor_formatter(LogFormatter())
    axes.set_xlabel("minutes")
    axes.set_ylabel("loss")
    save_figure(figure, path)


COLORS = ("#1b6ca8", "#e08e45", "#6a994e", "#9d6b99", "#b5b5b5", "#c1554e")


def new_figure(width: float, height: float, columns: int = 1) -> tuple[Any, Any]:
    """Return a figure of `width` × `height`, in inches, and its axes: one, or an array with a common vertical axis."""
    import matplotlib

    matplotlib.use("Agg")
    import matplotlib.pyplot as plt

    matplotlib.rcParams["text.parse_math"] = False  # a $ in a name is no formula
    figure, axes = plt.subplots(1, columns, figsize=(width, height), layout="constrained", sharey=True)
    for panel in axes if columns > 1 else (axes,):
        panel.spines[["top", "right"]].set_visible(False)
    return figure, axes


def save_figure(figure: Any, path: Path) -> None:
    """Write a figure as PNG, without the version of the library that drew it, and close it."""
    import matplotlib.pyplot as plt

    figure.savefig(path, dpi=130, metadata={"Software": None})
    plt.close(figure)
