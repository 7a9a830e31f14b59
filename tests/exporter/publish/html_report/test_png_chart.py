"""Figures of a report as PNG: a picture, the same again, with every word, and no other marks than the page has."""

from pathlib import Path
from typing import Any

import pytest

from headway.exporter.publish.html_report import png_chart
from headway.exporter.publish.html_report.bar_chart import Bar, BarChart, Row
from headway.exporter.publish.html_report.png_chart import write_png
from headway.exporter.publish.html_report.xy_chart import Point, Series, XyChart

LINES = XyChart(
    "t",
    [
        Series("one", [Point(1.0, 2.0, "", y_interval=(1.5, 2.5)), Point(100.0, 3.0, "", label="last")]),
        Series("two", [Point(10.0, 4.0, "")]),
    ],
    "tokens",
    "ms",
    x_log=True,
    front=[(1.0, 2.0), (100.0, 3.0)],
)
BARS = BarChart(
    "t", [Row("$a", [Bar(80.0, "", words="80")]), Row("b$", [Bar(20.0, "", 80.0, 2, "-60", (15.0, 25.0))])], "MB", 50.0
)


def test_a_figure_is_a_picture_and_repeats(tmp_path: Path) -> None:
    for name in ("one.png", "two.png"):
        write_png(LINES, "Latency", ["one", "two"], tmp_path / name)
    first, second = ((tmp_path / name).read_bytes() for name in ("one.png", "two.png"))
    assert first == second and first.startswith(b"\x89PNG") and b"matplotlib" not in first.lower()


def drawn(chart: XyChart | BarChart, legend: list[str], monkeypatch: pytest.MonkeyPatch) -> Any:
    found: list[Any] = []
    monkeypatch.setattr(png_chart, "save_figure", lambda figure, _: (figure.canvas.draw(), found.append(figure)))
    write_png(chart, "Latency", legend, Path("unused.png"))
    return found[0].axes[0]


def test_bars_go_from_where_they_begin_to_where_they_end(monkeypatch: pytest.MonkeyPatch) -> None:
    axes = drawn(BARS, [], monkeypatch)
    spans = [(bar.get_x(), bar.get_x() + bar.get_width()) for bar in axes.patches]
    assert spans == [(0.0, 80.0), (80.0, 20.0)] and axes.get_legend() is None
    assert [label.get_text() for label in axes.get_yticklabels()] == ["$a", "b$"] and axes.get_xlabel() == "MB"
    assert {note.get_text() for note in axes.texts} == {"80", "-60"}


def test_points_lie_where_they_are_and_colors_have_names(monkeypatch: pytest.MonkeyPatch) -> None:
    axes = drawn(LINES, ["one", "two"], monkeypatch)
    assert axes.get_xscale() == "log" and axes.get_yscale() == "linear"
    lines = [list(zip(line.get_xdata(), line.get_ydata(), strict=True)) for line in axes.lines]
    for wanted in ([(1.0, 2.0), (100.0, 3.0)], [(10.0, 4.0)], [(1.0, 1.5), (1.0, 2.5)]):
        assert wanted in lines
    assert [name.get_text() for name in axes.get_legend().get_texts()] == ["one", "two"]


def test_what_has_no_point_is_refused(tmp_path: Path) -> None:
    for chart in (lambda: XyChart("t", [], "x", "y"), lambda: BarChart("t", [], "x")):
        with pytest.raises(ValueError):
            write_png(chart(), "t", [], tmp_path / "a.png")
