"""Markdown tables, and the way figures are rounded in them."""

from collections.abc import Iterable, Sequence


def table(head: Sequence[str], rows: Iterable[Sequence[str]]) -> str:
    """Return a Markdown table. Every row has as many cells as the head."""
    lines = ["| " + " | ".join(head) + " |", "|" + "---|" * len(head)]
    for row in rows:
        if len(row) != len(head):
            raise ValueError(f"{len(row)} cells under {len(head)} columns: {row}")
        lines.append("| " + " | ".join(row) + " |")
    return "\n".join(line.replace("|  |", "| |") for line in lines)


def interval(ratio: Sequence[float], digits: int = 2) -> str:
    """Return a ratio with its 95 % interval, as `1.30 (1.25 to 1.34)`; `ratio` holds median, low and high."""
    middle, low, high = ratio
    return f"{middle:.{digits}f} ({low:.{digits}f} to {high:.{digits}f})"


def pair(values: Sequence[float], digits: int = 4) -> str:
    """Return two figures, as `0.9996 / 0.9992`."""
    first, second = values
    return f"{first:.{digits}f} / {second:.{digits}f}"


def megabytes(size: float, digits: int = 1) -> str:
    """Return bytes as megabytes of 10^6 bytes, without the unit."""
    return f"{size / 1e6:.{digits}f}"


def sentence(text: str | None) -> str:
    """Return text on one line, ready for a table cell."""
    return " ".join((text or "").split()).replace("|", "\\|")


def paragraphs(text: str | None) -> str:
    """Return a docstring as Markdown: indentation removed, paragraphs kept."""
    parts = (text or "").strip().split("\n\n")
    return "\n\n".join(" ".join(part.split()) for part in parts if part.strip())


def join(*parts: str) -> str:
    """Return parts with a blank line between; empty ones are left out."""
    return "\n\n".join(part for part in parts if part)
