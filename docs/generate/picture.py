"""Draw the picture of the README and of the home page: the way a model takes, as SVG."""

from dataclasses import dataclass
from html import escape
from itertools import pairwise

from .places import DOCS

FILE = DOCS / "images" / "headway.svg"

WIDTH, HEIGHT = 1080, 330
INK, MUTED, LINE, PAPER = "#1f2933", "#52606d", "#7b8794", "#ffffff"
FILLS = {"given": "#eef2f6", "made": "#e3f0fb", "judged": "#fdf1dc", "done": "#e3f4e8"}
FONT = "font-family=\"system-ui, -apple-system, 'Segoe UI', Helvetica, Arial, sans-serif\""
TITLE, TEXT, STEP = 14.5, 12, 19


@dataclass(frozen=True)
class Box:
    """A step with its title and lines; `x`, `y` are its upper left corner."""

    x: int
    y: int
    width: int
    height: int
    fill: str
    title: str
    lines: tuple[str, ...] = ()

    @property
    def middle(self) -> float:
        return self.y + self.height / 2

    @property
    def right(self) -> int:
        return self.x + self.width

    def svg(self) -> str:
        """Return the box with its text, the whole centered vertically."""
        center = self.x + self.width / 2
        top = self.middle - (len(self.lines) * STEP) / 2 + 5
        parts = [
            f'<rect x="{self.x}" y="{self.y}" width="{self.width}" height="{self.height}" rx="8" '
            f'fill="{FILLS[self.fill]}" stroke="{LINE}"/>',
            _text(center, top, self.title, TITLE, INK, bold=True),
        ]
        for i, line in enumerate(self.lines, 1):
            parts.append(_text(center, top + i * STEP, line, TEXT, MUTED))
        return "\n".join(parts)


def _text(x: float, y: float, text: str, size: float, color: str, *, bold: bool = False) -> str:
    weight = ' font-weight="600"' if bold else ""
    return f'<text x="{x:g}" y="{y:g}" font-size="{size:g}" fill="{color}" text-anchor="middle"{weight}>{escape(text)}</text>'


def _arrow(*points: tuple[float, float], dashed: bool = False) -> str:
    path = "M" + " L".join(f"{x:g} {y:g}" for x, y in points)
    dash = ' stroke-dasharray="5 4"' if dashed else ""
    return f'<path d="{path}" fill="none" stroke="{LINE}" stroke-width="1.6"{dash} marker-end="url(#head)"/>'


def draw() -> str:
    """Return the picture as SVG."""
    top, height, middle = 50, 150, 125.0
    source = Box(
        16,
        top,
        170,
        height,
        "given",
        "Source",
        ("Hugging Face directory", "compressed checkpoint", ".onnx file", "torch module"),
    )
    graph = Box(
        220, top, 156, height, "made", "Canonical graph", ("ONNX, opset 23,", "one Attention node", "per layer")
    )
    passes = Box(410, top, 136, height, "made", "Passes", ("remove, split,", "repair, recover,", "quantize"))
    targets = Box(
        580,
        top,
        176,
        height,
        "made",
        "Targets",
        ("ONNX Runtime on CPUs", "phones: .ort .pte .tflite", "browsers", "TensorRT"),
    )
    check = Box(790, top, 100, height, "judged", "Check", ("parity", "quality", "gates"))
    bundle = Box(924, top, 140, height, "done", "Verified bundle", ("model file", "tokenizer", "manifest", "card"))
    text = Box(398, 258, 160, 56, "given", "Your text", ("like production's",))
    refused = Box(770, 258, 140, 56, "given", "Refused", ("nothing is written",))
    row = (source, graph, passes, targets, check, bundle)
    parts = [box.svg() for box in (*row, text, refused)]
    for left, right in pairwise(row):
        parts.append(_arrow((left.right + 2, middle), (right.x - 3, middle)))
    parts.append(_arrow((478, text.y - 2), (478, top + height + 3)))
    parts.append(_arrow((840, top + height + 2), (840, refused.y - 3)))
    parts.append(_arrow((101, top - 2), (101, 26), (840, 26), (840, top - 3), dashed=True))
    parts.append(_text(478, 18, "the source's own answers, to compare with", TEXT, MUTED))
    parts.append(_text(524, 234, "calibration", TEXT, MUTED))
    parts.append(_text(886, 234, "too far off", TEXT, MUTED))
    head = (
        f'<svg xmlns="http://www.w3.org/2000/svg" viewBox="0 0 {WIDTH} {HEIGHT}" width="{WIDTH}" height="{HEIGHT}" {FONT} role="img">\n'
        "<title>The way of a model: source, canonical graph, passes, targets, check, verified bundle</title>\n"
        '<defs><marker id="head" viewBox="0 0 10 10" refX="9" refY="5" markerWidth="7" markerHeight="7" orient="auto">'
        f'<path d="M0 0 L10 5 L0 10 z" fill="{LINE}"/></marker></defs>\n'
        f'<rect width="{WIDTH}" height="{HEIGHT}" fill="{PAPER}"/>\n'
    )
    return head + "\n".join(parts) + "\n</svg>\n"


def update(*, write: bool) -> bool:
    """Return whether the picture was out of date; with `write`, draw it."""
    picture = draw()
    stale = not FILE.is_file() or FILE.read_text(encoding="utf-8") != picture
    if stale and write:
        FILE.parent.mkdir(parents=True, exist_ok=True)
        FILE.write_text(picture, encoding="utf-8")
    return stale
