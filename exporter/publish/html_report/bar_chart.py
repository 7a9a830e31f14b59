"""Draw figures as horizontal bars: one after another, in groups, from a beginning to an end, with intervals and a line of reference."""

from collections.abc import Sequence
from dataclasses import dataclass

from .axis_ticks import Axis, axis_over, shown
from .svg_parts import WIDTH, cut, drawing, element, line, text

_TOP, _BOTTOM, _RIGHT = 6.0, 34.0, 56.0
_THICK, _GAP = 11.0, 7.0
_LETTER = 6.3
_MOST_LETTERS = 26


@dataclass(frozen=True)
class Bar:
    """A bar from `begin` to `end`; `color` is the number of its color, `words` stand behind it, `tip` is shown over it."""

    end: float
    tip: str
    begin: float = 0.0
    color: int = 0
    words: str = ""
    interval: tuple[float, float] | None = None


@dataclass(frozen=True)
class Row:
    """The bars of one name, below each other."""

    name: str
    bars: Sequence[Bar]


@dataclass(frozen=True)
class BarChart:
    """Rows from top to bottom over an axis with a `label`; `reference` is a value that is marked by a line.

    Raises ValueError where there is no bar.
    """

    title: str
    rows: Sequence[Row]
    label: str
    reference: float | None = None

    def __post_init__(self) -> None:
        if not any(row.bars for row in self.rows):
            raise ValueError(f"{self.title}: there is no bar")

    def svg(self) -> str:
        """Return the drawing."""
        rows, reference = self.rows, self.reference
        values = [v for row in rows for bar in row.bars for v in (bar.begin, bar.end, *(bar.interval or ()))]
        longest = max(min(len(row.name), _MOST_LETTERS) for row in rows)
        left = 8 + _LETTER * longest
        across = axis_over(
            [*values, *([reference] if reference is not None else [])], left, WIDTH - _RIGHT, from_zero=True
        )
        bars = sum(len(row.bars) for row in rows)
        height = _TOP + bars * _THICK + len(rows) * _GAP + _BOTTOM
        bottom = height - _BOTTOM
        parts = [*_frame(across, bottom, self.label, height)]
        if reference is not None:
            x = across.place(reference)
            parts.append(element("g", line(x, _TOP, x, bottom, "reference"), tip=shown(reference), css="tip"))
        y = _TOP
        for row in rows:
            middle = y + len(row.bars) * _THICK / 2 + 3.5
            name = cut(row.name, _MOST_LETTERS)
            parts.append(text(left - 5, middle, name, "tick", anchor="end", tip=row.name if name != row.name else ""))
            for bar in row.bars:
                parts.append(_bar(bar, across, y))
                y += _THICK
            y += _GAP
        return drawing(height, self.title, parts)


def _frame(across: Axis, bottom: float, label: str, height: float) -> list[str]:
    ticks = across.ticks
    parts = [line(across.place(t), _TOP, across.place(t), bottom, "grid") for t in ticks]
    parts += [text(across.place(t), bottom + 13, shown(t), "tick", anchor="middle") for t in ticks]
    zero = across.place(0.0)
    parts += [line(zero, _TOP, zero, bottom, "axis")]
    parts += [text(WIDTH / 2, height - 4, label, "label", anchor="middle")]
    return parts


def _bar(bar: Bar, across: Axis, y: float) -> str:
    low, high = sorted((across.place(bar.begin), across.place(bar.end)))
    parts = [
        element("rect", x=low, y=y + 1, width=max(high - low, 1.5), height=_THICK - 2, rx=1.5, css=f"bar c{bar.color}")
    ]
    edge = high
    if bar.interval:
        ends = [across.place(end) for end in bar.interval]
        parts.append(line(ends[0], y + _THICK / 2, ends[1], y + _THICK / 2, "whisker"))
        edge = max(edge, *ends)
    parts.append(text(edge + 4, y + 9, bar.words, "value") if bar.words else "")
    parts.append(element("rect", x=low, y=y, width=max(high - low, 12), height=_THICK, css="hit"))
    return element("g", *parts, tip=bar.tip, css="tip")
