"""Write the elements of a drawing as SVG. Every text and attribute is escaped here, and nowhere else is markup put together."""

from collections.abc import Iterable
from html import escape

WIDTH = 360
"""The width of a drawing in its own units: that of a phone, so that its text can be read there."""


def element(name: str, *inner: str, tip: str = "", **attributes: object) -> str:
    """Return an element with `inner` elements. `tip` is what is shown over it; `css` names its classes; `_` in a name is `-`."""
    names = {"css": "class"}
    given = "".join(
        f' {names.get(key, key.replace("_", "-"))}="{escape(_plain(value))}"' for key, value in attributes.items()
    )
    title = f"<title>{escape(tip)}</title>" if tip else ""
    content = title + "".join(inner)
    return f"<{name}{given}>{content}</{name}>" if content else f"<{name}{given}/>"


def text(x: float, y: float, words: str, css: str, *, anchor: str = "start", tip: str = "") -> str:
    """Return words at a place."""
    return element("text", escape(words), x=x, y=y, css=css, text_anchor=anchor, tip=tip)


def line(x1: float, y1: float, x2: float, y2: float, css: str) -> str:
    """Return a straight line."""
    return element("line", x1=x1, y1=y1, x2=x2, y2=y2, css=css)


def path(points: Iterable[tuple[float, float]], css: str) -> str:
    """Return a line through points."""
    return element("path", d="M" + "L".join(f"{x:.1f} {y:.1f}" for x, y in points), css=css)


def drawing(height: float, label: str, parts: Iterable[str]) -> str:
    """Return a whole drawing; `label` says what it shows to those who do not see it."""
    return element("svg", *parts, viewBox=f"0 0 {WIDTH} {height:.0f}", role="img", aria_label=label)


def cut(words: str, most: int) -> str:
    """Return the end of words that are too long: a path's end tells more than its beginning."""
    return words if len(words) <= most else "…" + words[1 - most :]


def _plain(value: object) -> str:
    return f"{value:.1f}".removesuffix(".0") if isinstance(value, float) else str(value)
