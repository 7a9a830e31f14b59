"""Drawings over two axes: points in their places, with intervals, names and values."""

from xml.etree import ElementTree

import pytest

from headway.exporter.publish.html_report.xy_chart import Point, Series, XyChart


def marks(svg: str, css: str) -> list[ElementTree.Element]:
    return [node for node in ElementTree.fromstring(svg).iter() if node.attrib.get("class", "").split()[:1] == [css]]


def test_larger_values_are_further_right_and_higher() -> None:
    points = [Point(x, x * x, f"{x} of {x * x}") for x in (1.0, 2.0, 4.0)]
    svg = XyChart("a title", [Series("one", points)], "x", "y", x_log=True).svg()
    circles = marks(svg, "mark")
    across = [float(c.attrib["cx"]) for c in circles]
    up = [float(c.attrib["cy"]) for c in circles]
    assert across == sorted(across) and up == sorted(up, reverse=True)
    assert across[1] - across[0] == pytest.approx(across[2] - across[1], abs=0.2)  # logarithmic
    assert [g.find("title").text for g in marks(svg, "tip")] == ["1.0 of 1.0", "2.0 of 4.0", "4.0 of 16.0"]
    assert len(marks(svg, "line")) == 1


def test_intervals_names_and_the_front_are_drawn() -> None:
    points = [Point(1.0, 2.0, "a", (0.5, 1.5), (1.0, 3.0), "first"), Point(3.0, 1.0, "b", label="second")]
    svg = XyChart("t", [Series("", points, joined=False)], "x", "y", front=[(1.0, 2.0), (3.0, 1.0)]).svg()
    assert len(marks(svg, "span")) == 2 and len(marks(svg, "front")) == 1 and not marks(svg, "line")
    assert [node.text for node in marks(svg, "name")] == ["first", "second"]
    assert [node.attrib["text-anchor"] for node in marks(svg, "name")] == ["start", "end"]


def test_names_of_near_points_do_not_cover_each_other() -> None:
    points = [Point(1.0, 1.0, "", label=f"name {i}") for i in range(4)] + [Point(9.0, 9.0, "")]
    heights = [float(node.attrib["y"]) for node in marks(XyChart("t", [Series("", points)], "x", "y").svg(), "name")]
    assert len(heights) == 4 and min(abs(a - b) for i, a in enumerate(heights) for b in heights[:i]) >= 11


def test_more_series_than_colors_are_dashed() -> None:
    series = [Series(str(i), [Point(0.0, i, ""), Point(1.0, i, "")]) for i in range(7)]
    lines = marks(XyChart("t", series, "x", "y").svg(), "line")
    assert [node.attrib["class"] for node in lines][::6] == ["line c0", "line c0 dashed"]


def test_one_point_is_drawn_and_none_is_refused() -> None:
    assert marks(XyChart("t", [Series("", [Point(5.0, 5.0, "")])], "x", "y").svg(), "mark")
    with pytest.raises(ValueError):
        XyChart("t", [], "x", "y").svg()
