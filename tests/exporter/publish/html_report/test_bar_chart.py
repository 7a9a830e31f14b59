"""Bars: as long as their values, from where they begin, with intervals and a reference."""

from xml.etree import ElementTree

import pytest

from headway.exporter.publish.html_report.bar_chart import Bar, BarChart, Row

from .test_xy_chart import marks


def widths(svg: str) -> list[float]:
    return [float(bar.attrib["width"]) for bar in marks(svg, "bar")]


def test_bars_are_as_long_as_their_values() -> None:
    svg = BarChart(
        "t",
        [Row("a", [Bar(10.0, "ten", words="10")]), Row("b", [Bar(5.0, "five"), Bar(20.0, "twenty", color=1)])],
        "MB",
    ).svg()
    ten, five, twenty = widths(svg)
    assert ten == pytest.approx(2 * five, abs=0.2) and twenty == pytest.approx(2 * ten, abs=0.2)
    assert [node.text for node in marks(svg, "value")] == ["10"]
    assert marks(svg, "bar")[2].attrib["class"] == "bar c1"


def test_a_bar_may_begin_elsewhere_and_end_below_zero() -> None:
    svg = BarChart(
        "t",
        [Row("whole", [Bar(80.0, "")]), Row("step", [Bar(20.0, "", begin=80.0)]), Row("minus", [Bar(-10.0, "")])],
        "x",
    ).svg()
    whole, step, minus = marks(svg, "bar")
    end = float(whole.attrib["x"]) + float(whole.attrib["width"])
    assert float(step.attrib["x"]) + float(step.attrib["width"]) == pytest.approx(end, abs=0.2)
    assert float(minus.attrib["x"]) < float(whole.attrib["x"])


def test_long_names_are_cut_and_shown_whole_over_them() -> None:
    svg = BarChart("t", [Row("n" * 60, [Bar(1.0, "", interval=(0.5, 1.5))])], "x", reference=1.2).svg()
    name = next(node for node in ElementTree.fromstring(svg).iter() if "".join(node.itertext()).startswith("n" * 60))
    assert name.find("title") is not None and len(marks(svg, "whisker")) == len(marks(svg, "reference")) == 1
