"""Elements of drawings: whatever they are given stays text."""

from xml.etree import ElementTree

from headway.exporter.publish.html_report.svg_parts import cut, drawing, element, line, path, text

HOSTILE = '"><script>alert(1)</script><x y="&'


def test_hostile_words_stay_words() -> None:
    svg = drawing(50.0, HOSTILE, [text(1, 2, HOSTILE, HOSTILE, tip=HOSTILE), element("rect", css=HOSTILE, tip=HOSTILE)])
    root = ElementTree.fromstring(svg)
    assert {node.tag for node in root.iter()} == {"svg", "text", "title", "rect"}
    assert root.attrib["aria-label"] == HOSTILE and "".join(root.itertext()) == 3 * HOSTILE


def test_names_of_attributes_are_those_of_svg() -> None:
    assert element("a", text_anchor="end", css="x", x=1.0) == '<a text-anchor="end" class="x" x="1"/>'
    assert line(0.0, 1.0, 2.0, 3.25, "g") == '<line x1="0" y1="1" x2="2" y2="3.2" class="g"/>'
    assert 'd="M0.0 1.0L2.0 3.0"' in path([(0, 1), (2, 3)], "p")


def test_of_long_words_the_end_is_kept() -> None:
    assert cut("short", 10) == "short"
    assert cut("a/very/long/path", 8) == "…ng/path" and len(cut("a/very/long/path", 8)) == 8
