"""Define how long a gate may measure: quick, default, or long."""

from dataclasses import dataclass


@dataclass(frozen=True)
class Mode:
    """A budget. `ratio_seconds` go to the comparison, until half its interval is `half_width` or less; `speedup` is asked by default.

    A scenario runs for `scenario_seconds` in each of `processes`; `rounds` are those of one process of the comparison; a sweep has
    `sweep_seconds` for each number of threads and size of batch.
    """

    name: str
    ratio_seconds: float
    half_width: float
    speedup: float
    scenario_seconds: float
    processes: int
    rounds: int
    sweep_seconds: float


MODES = {
    mode.name: mode
    for mode in (
        Mode("quick", 16.0, 0.015, 0.95, 4.0, 1, 4, 0.4),
        Mode("default", 110.0, 0.012, 0.95, 10.0, 3, 6, 2.0),
        Mode("long", 600.0, 0.006, 0.98, 40.0, 5, 6, 8.0),
    )
}
"""By name. The long mode asks whether a bundle is 2 % slower, the others 5 %."""
