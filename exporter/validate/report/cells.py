"""Write figures of a report as text."""

from collections.abc import Iterable, Mapping
from typing import Any

from ...publish.html_report.axis_ticks import shown
from ..estimates import Estimate

DASH = "–"


def ranged(figure: Estimate | Mapping[str, Any] | None) -> str:
    """Return a figure with its interval; a dash where there is none."""
    if figure is None:
        return DASH
    value, low, high = (
        (figure.value, figure.low, figure.high)
        if isinstance(figure, Estimate)
        else (figure[k] for k in ("value", "low", "high"))
    )
    return shown(value) if low == high else f"{shown(value)} [{shown(low)}, {shown(high)}]"


def ends(figure: Mapping[str, Any]) -> tuple[float, float]:
    """Return the ends of a stored interval."""
    return figure["low"], figure["high"]


def by_bundle(sentences: Iterable[tuple[str, str]]) -> list[str]:
    """Return sentences, each once, after the names of all bundles that it is true of."""
    owners: dict[str, list[str]] = {}
    for name, sentence in sentences:
        owners.setdefault(sentence, []).append(name)
    return [f"{', '.join(names)}: {sentence}" for sentence, names in owners.items()]
