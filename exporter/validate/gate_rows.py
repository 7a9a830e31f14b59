"""Judge figures by their limits: each gate passes, fails, or is undecided, and says what would settle it."""

from collections.abc import Iterable, Mapping
from dataclasses import asdict, dataclass
from typing import Any

from .estimates import Estimate, Verdict, at_least, at_most
from .noise import Noise
from .non_inferiority import CORRELATIONS, Drop, texts_needed
from .paired import Ratio
from .percentiles import least_samples

UNITS: Mapping[str, str] = {
    "p50_ms": "ms",
    "p90_ms": "ms",
    "p99_ms": "ms",
    "throughput": "texts/s",
    "speedup_vs": "×",
    "max_quality_drop": "points",
    "max_mb": "MB",
    "max_rss_mb": "MB",
    "cold_start_ms": "ms",
    "parity": "",
}
"""The gates, in the order in which they are shown, and the unit of each."""

PERCENTILES: Mapping[str, float] = {"p50_ms": 50, "p90_ms": 90, "p99_ms": 99}
LEAST_OF: frozenset[str] = frozenset({"throughput", "speedup_vs"})
"""Gates whose limit is a least, not a most."""

BUSIER = "the machine is busier than when the lock was written, which alone can be some percent: measure again when it is as quiet"
_SHIFT = 0.05
_FAR = 30.0


@dataclass(frozen=True)
class Row:
    """A gate: its limit, the figure that was measured (None where it is not given), the verdict, and what is to be said of it."""

    gate: str
    limit: float
    figure: Estimate | None
    verdict: Verdict
    note: str = ""

    @property
    def unit(self) -> str:
        """The unit of limit and figure."""
        return UNITS[self.gate]

    def to_json(self) -> dict[str, Any]:
        """Return the row as plain values."""
        return asdict(self) | {"unit": self.unit, "at_least": self.gate in LEAST_OF}


def verdict_of(rows: Iterable[Row]) -> Verdict:
    """Return fail where a gate failed, undecided where one is, pass where all passed."""
    verdicts = {row.verdict for row in rows}
    return "fail" if "fail" in verdicts else "undecided" if "undecided" in verdicts else "pass"


def wall_row(
    gate: str, limit: float, wall: Estimate | None, cpu: Estimate | None, noise: Noise, samples: int = 0
) -> Row:
    """Return the row of a figure by the wall clock, which noise makes worse and never better.

    So it passes where it passes. It fails where it would by the clock of the thread too, or on a quiet machine. Else a noisy machine
    cannot answer: no figure is given, and the row says how much was taken away. `wall` is None where `samples` were too few.
    """
    judge = at_least if gate in LEAST_OF else at_most
    if wall is None:
        needed = f", {least_samples(PERCENTILES[gate])} independent ones at least" if gate in PERCENTILES else ""
        return Row(gate, limit, None, "undecided", f"{samples} samples are too few{needed}: give it more time (--long)")
    verdict = judge(wall, limit)
    if verdict == "pass" or noise.quiet:
        return Row(gate, limit, wall, verdict, _more(wall, limit) if verdict == "undecided" else "")
    if cpu is not None and judge(cpu, limit) == "fail":
        return Row(gate, limit, cpu, "fail", "by the processor's own clock, without what the machine took away")
    return Row(
        gate,
        limit,
        None,
        "undecided",
        f"the machine took {100 * noise.share:.0f} % of the time away, at most {noise.longest_ms:.0f} ms at once: too noisy for this "
        "question; end what else runs, or take a machine of your own",
    )


def ratio_row(limit: float, ratio: Ratio, against: str, *, busier: bool = False) -> Row:
    """Return the row of the speed beside a baseline.

    `busier`: the baseline is a lock, and the machine is busier than when it was written. Neighbors slow a model and the reference workload
    unequally, by some percent: what fails by less than 5 % stays undecided.
    """
    found = ratio.estimate
    speed = Estimate(1 / found.value, 1 / found.high, 1 / found.low, found.count)
    found_at = (
        f"a slowdown of {100 * ratio.detectable:.1f} % would be found"
        if limit <= 1
        else f"a speed of {limit * limit / (1 + ratio.detectable):.2f}× or less would be found"
    )
    note = f"beside {against}; {found_at}"
    verdict = at_least(speed, limit)
    if busier and verdict == "fail" and speed.high >= limit * (1 - _SHIFT):
        return Row("speedup_vs", limit, speed, "undecided", f"{BUSIER}; {note}")
    return Row(
        "speedup_vs", limit, speed, verdict, f"{_more(speed, limit)}; {note}" if verdict == "undecided" else note
    )


def most_row(gate: str, limit: float, figure: Estimate | None, noise: Noise | None = None, *, note: str = "") -> Row:
    """Return the row of a size, or of a time that noise can only lengthen."""
    if figure is None:
        return Row(gate, limit, None, "undecided", "too few processes were measured: give it more time")
    verdict = at_most(figure, limit)
    if noise is not None and not noise.quiet and verdict != "pass":
        return wall_row(gate, limit, figure, None, noise)
    return Row(gate, limit, figure, verdict, _more(figure, limit) if verdict == "undecided" else note)


def quality_row(drop: Drop) -> Row:
    """Return the row of the points that are lost."""
    verdict = at_most(drop.drop, drop.allowed)
    note = f"{drop.metric} {drop.points:.2f}, source {drop.source_points:.2f}; {drop.statement}"
    if verdict == "undecided":
        needed = 0 if drop.metric in CORRELATIONS else texts_needed(drop.allowed)
        if drop.allowed == 0:
            more = "no number of texts shows that nothing is lost: allow some part of a point"
        elif drop.drop.count < needed:
            more = f"{drop.drop.count} texts are too few for such a statement: label {needed} at least"
        else:
            more = _more(drop.drop, drop.allowed, "texts")
        note = f"{more}; {note}"
    return Row("max_quality_drop", drop.allowed, drop.drop, verdict, note)


def parity_row(agrees: bool, words: str) -> Row:
    """Return the row of the comparison with the source."""
    return Row("parity", 1.0, Estimate.exact(float(agrees)), "pass" if agrees else "fail", words)


def _more(figure: Estimate, limit: float, of: str = "time") -> str:
    """Return what would settle an undecided figure: its interval shrinks with the square root of the effort."""
    half, distance = (figure.high - figure.low) / 2, abs(figure.value - limit)
    factor = (half / distance) ** 2 if distance else float("inf")
    if factor > _FAR:
        return "the figure is at the limit itself: no measurement tells them apart; set the limit where it matters"
    return f"about {max(factor * 1.2, 1.5):.1f} times as much {of} would settle it"


def sorted_rows(rows: Iterable[Row]) -> list[Row]:
    """Return rows in the order of `UNITS`."""
    order = list(UNITS)
    return sorted(rows, key=lambda row: order.index(row.gate))
