"""Draw figures over two axes: lines through points, or points with intervals and the front of those that nothing beats."""

from collections.abc import Sequence
from dataclasses import dataclass

from .axis_ticks import Axis, axis_over, shown
from .svg_parts import WIDTH, cut, drawing, element, line, path, text

_HEIGHT = 236
_LEFT, _RIGHT, _TOP, _BOTTOM = 44.0, 10.0, 20.0, 38.0
_MOST_LETTERS, _LETTER, _LINE = 22, 5.6, 12.0
COLORS = 6
"""So many colors tell series apart; a seventh has the first one again, and another dash."""


@dataclass(frozen=True)
class Point:
    """A point; `tip` is shown over it. `x_interval` and `y_interval` are drawn as lines, `label` beside it."""

    x: float
    y: float
    tip: str
    x_interval: tuple[float, float] | None = None
    y_interval: tuple[float, float] | None = None
    label: str = ""


@dataclass(frozen=True)
class Series:
    """Points that belong together; `joined` by a line. Points without `marks` show themselves only when they are pointed at."""

    name: str
    points: Sequence[Point]
    joined: bool = True
    marks: bool = True


@dataclass(frozen=True)
class XyChart:
    """Series over two axes. `front` is a line through points in the order given, drawn behind them.

    Raises ValueError where no series has a point.
    """

    title: str
    series: Sequence[Series]
    x_label: str
    y_label: str
    x_log: bool = False
    y_log: bool = False
    y_zero: bool = False
    front: Sequence[tuple[float, float]] = ()

    def __post_init__(self) -> None:
        if not any(one.points for one in self.series):
            raise ValueError(f"{self.title}: there is no point")

    def svg(self) -> str:
        """Return the drawing."""
        points = [point for one in self.series for point in one.points]
        xs = [x for p in points for x in (p.x, *(p.x_interval or ()))]
        ys = [y for p in points for y in (p.y, *(p.y_interval or ()))]
        across = axis_over(xs, _LEFT, WIDTH - _RIGHT, logarithmic=self.x_log)
        up = axis_over(ys, _HEIGHT - _BOTTOM, _TOP, logarithmic=self.y_log, from_zero=self.y_zero)
        parts = [*_frame(across, up, self.x_label, self.y_label)]
        if len(self.front) > 1:
            parts.append(path([(across.place(x), up.place(y)) for x, y in self.front], "front"))
        for number, one in enumerate(self.series):
            parts.append(_series(one, number, across, up))
        parts += _names([point for point in points if point.label], across, up)
        return drawing(_HEIGHT, self.title, parts)


def _frame(across: Axis, up: Axis, x_label: str, y_label: str) -> list[str]:
    parts = []
    for tick in up.ticks:
        y = up.place(tick)
        parts += [
            line(_LEFT, y, WIDTH - _RIGHT, y, "grid"),
            text(_LEFT - 5, y + 3.5, shown(tick), "tick", anchor="end"),
        ]
    for tick in across.ticks:
        x = across.place(tick)
        parts += [
            line(x, up.start, x, up.start + 4, "axis"),
            text(x, up.start + 15, shown(tick), "tick", anchor="middle"),
        ]
    parts.append(line(_LEFT, up.start, WIDTH - _RIGHT, up.start, "axis"))
    parts.append(text((_LEFT + WIDTH - _RIGHT) / 2, _HEIGHT - 6, x_label, "label", anchor="middle"))
    parts.append(text(2, 11, y_label, "label"))
    return parts


def _series(one: Series, number: int, across: Axis, up: Axis) -> str:
    color = f"c{number % COLORS}" + (" dashed" if number >= COLORS else "")
    parts = []
    if one.joined and len(one.points) > 1:
        parts.append(path([(across.place(p.x), up.place(p.y)) for p in one.points], f"line {color}"))
    for point in one.points:
        x, y = across.place(point.x), up.place(point.y)
        if point.x_interval:
            parts.append(
                line(across.place(point.x_interval[0]), y, across.place(point.x_interval[1]), y, f"span {color}")
            )
        if point.y_interval:
            parts.append(line(x, up.place(point.y_interval[0]), x, up.place(point.y_interval[1]), f"span {color}"))
        mark = element("circle", cx=x, cy=y, r=3.5, css=f"mark {color}" if one.marks else "quiet")
        hit = element("circle", cx=x, cy=y, r=9, css="hit")
        parts.append(element("g", mark, hit, tip=point.tip, css="tip"))
    return element("g", *parts)


def _names(points: Sequence[Point], across: Axis, up: Axis) -> list[str]:
    """Return the labels beside their points, each at the first height at which it covers no other."""
    parts: list[str] = []
    taken: list[tuple[float, float, float]] = []
    for point in points:
        x, y = across.place(point.x), up.place(point.y)
        right = x > (across.start + across.end) / 2
        words = cut(point.label, _MOST_LETTERS)
        width = _LETTER * len(words)
        at = x - 7 if right else x + 7
        low = at - width if right else at
        heights = [y - 6 - step * _LINE for step in range(len(points) + 1)] + [y + 6 + _LINE]
        free = (h for h in heights if h > _TOP - 8 and not any(_covers(low, low + width, h, box) for box in taken))
        height = next(free, heights[0])
        taken.append((low, low + width, height))
        parts.append(text(at, height, words, "name", anchor="end" if right else "start"))
    return parts


def _covers(low: float, high: float, height: float, other: tuple[float, float, float]) -> bool:
    return low < other[1] and other[0] < high and abs(height - other[2]) < _LINE - 0.5
