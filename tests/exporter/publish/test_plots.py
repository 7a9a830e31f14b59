"""Plots of a card: written, and the same again."""

from itertools import pairwise
from pathlib import Path
from typing import Any

import matplotlib.pyplot as plt
import pytest

from headway.exporter.publish import plots
from headway.exporter.publish.plots import plot_losses, plot_sensitivity, plot_stages

STAGES = [
    {"name": "source", "nbytes": 4e6, "ms": 3.0, "quality": 91.0},
    {"name": "quantize", "nbytes": 1e6, "ms": 1.0, "quality": 90.5},
]
PLOTS = {
    "sensitivity": lambda path: plot_sensitivity(
        [{"name": "a", "error": 0.1}, {"name": "b", "error": 0.3}], "nats per text", 0.2, path
    ),
    "stages": lambda path: plot_stages(STAGES, "accuracy", path),
    "losses": lambda path: plot_losses([(0.0, 2.0), (60.0, 1.0), (120.0, 0.5)], path),
}


@pytest.mark.parametrize("name", PLOTS)
def test_a_plot_is_a_picture_and_repeats(name: str, tmp_path: Path) -> None:
    for file in ("one.png", "two.png"):
        PLOTS[name](tmp_path / file)
    first, second = ((tmp_path / file).read_bytes() for file in ("one.png", "two.png"))
    assert first == second and first.startswith(b"\x89PNG") and len(first) > 5000
    assert b"Software" not in first and b"matplotlib" not in first.lower()


def test_ticks_of_the_stages_do_not_touch(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    drawn: list[Any] = []
    monkeypatch.setattr(plots, "save_figure", lambda figure, _: (figure.canvas.draw(), drawn.append(figure)))
    figures = [(91234567, 1234.5, 91.2), (0.14e6, 0.103, -1.2), (1e9, 1e-3, 0.0)]
    for nbytes, ms, quality in figures:
        plot_stages([{"name": "source", "nbytes": nbytes, "ms": ms, "quality": quality}] * 2, "x", tmp_path / "x.png")
    for axes in (a for figure in drawn for a in figure.axes):
        ticks = [label.get_window_extent() for label in axes.get_xticklabels() if label.get_text()]
        gaps = [b.x0 - a.x1 for a, b in pairwise(ticks)]
        assert min(gaps) > 8


@pytest.mark.parametrize("unit", ["nats per text", "nats and squared distances per text"])
@pytest.mark.parametrize("error", [1e-9, 0.00012345678, 0.123456789, 12345.678, 9.999e6])
def test_words_of_the_sensitivity_do_not_overlap_and_are_not_cut(
    error: float, unit: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    drawn: list[Any] = []
    monkeypatch.setattr(plots, "save_figure", lambda figure, _: (figure.canvas.draw(), drawn.append(figure)))
    kinds = ("query, key, value", "attention output", "feed-forward in 1", "feed-forward out 1")
    for blocks in (1, 12):
        names = [f"block {i} {kind}" for i in range(blocks) for kind in kinds]
        groups = [{"name": name, "error": error * (1 + i % 5)} for i, name in enumerate(names)]
        plot_sensitivity(groups, unit, error / 2, tmp_path / "x.png")
    for figure in drawn:
        axes = figure.axes[0]
        ticks = [t for t, at in zip(axes.get_xticklabels(), axes.get_xticks(), strict=True) if at <= axes.get_xlim()[1]]
        written = [*axes.get_yticklabels(), *ticks, axes.xaxis.label, axes.xaxis.get_offset_text()]
        boxes = [text.get_window_extent() for text in written if text.get_text()]
        assert not any(a.overlaps(b) for i, a in enumerate(boxes) for b in boxes[:i])
        assert all(b.x0 >= 0 and b.x1 <= figure.bbox.x1 and b.y0 >= 0 and b.y1 <= figure.bbox.y1 for b in boxes)
        plt.close(figure)
