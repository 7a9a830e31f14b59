"""Plots of a card: written, and the same again."""

from itertools import pairwise
from pathlib import Path
from typing import Any

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
