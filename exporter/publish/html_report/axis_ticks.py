"""Place values on an axis, linear or logarithmic, and choose its round ticks."""

import math
from collections.abc import Sequence
from dataclasses import dataclass

_STEPS = (1.0, 2.0, 2.5, 5.0, 10.0)
_MOST_TICKS = 5


@dataclass(frozen=True)
class Axis:
    """An axis from `low` to `high`, drawn from `start` to `end` in the units of the drawing."""

    low: float
    high: float
    start: float
    end: float
    logarithmic: bool = False

    def place(self, value: float) -> float:
        """Return where a value is drawn; what lies beyond an end is drawn there."""
        low, high, at = (self._scaled(x) for x in (self.low, self.high, value))
        part = (at - low) / (high - low)
        return self.start + min(max(part, 0.0), 1.0) * (self.end - self.start)

    def _scaled(self, value: float) -> float:
        return math.log(max(value, 1e-300)) if self.logarithmic else value

    @property
    def ticks(self) -> list[float]:
        """The round values within the axis, at most six of them."""
        return _round_powers(self.low, self.high) if self.logarithmic else _round_steps(self.low, self.high)


def axis_over(
    values: Sequence[float], start: float, end: float, *, logarithmic: bool = False, from_zero: bool = False
) -> Axis:
    """Return an axis that holds all values with some room beside them. `from_zero`: it begins at 0, as that of bars has to.

    A logarithmic axis is linear where a value is 0 or less. Raises ValueError where there are no values.
    """
    low, high = min(values), max(values)
    if logarithmic and low > 0:
        span = max(math.log(high / low), 0.2)
        return Axis(math.exp(math.log(low) - 0.06 * span), math.exp(math.log(high) + 0.06 * span), start, end, True)
    if from_zero:
        low, high = min(low, 0.0), max(high, 0.0)
    room = 0.06 * (high - low or abs(high) or 1.0)
    return Axis(low if from_zero and low == 0 else low - room, high + room, start, end)


def _round_steps(low: float, high: float) -> list[float]:
    """Return multiples of a round step from `low` to `high`."""
    rough = (high - low) / _MOST_TICKS
    power = 10.0 ** math.floor(math.log10(rough))
    step = next(power * s for s in _STEPS if power * s >= rough * (1 - 1e-9))
    first, last = math.ceil(low / step - 1e-9), math.floor(high / step + 1e-9)
    return [round(i * step, 12) for i in range(first, last + 1)]


def _round_powers(low: float, high: float) -> list[float]:
    """Return powers of ten from `low` to `high`; with 2 and 5 between them, or steps, where there are few."""
    first, last = math.floor(math.log10(low)), math.ceil(math.log10(high))
    for parts in ((1,), (1, 3), (1, 2, 5)):
        values = [part * 10.0**power for power in range(first, last + 1) for part in parts]
        ticks = [value for value in values if low <= value <= high]
        if len(ticks) >= 3:
            return ticks[:: math.ceil(len(ticks) / (_MOST_TICKS + 1))]
    return _round_steps(low, high)


def shown(value: float) -> str:
    """Return a figure with three digits, and thousands as they are."""
    if value == 0 or not math.isfinite(value):
        return "0" if value == 0 else str(value)
    if abs(value) >= 1000:
        return f"{value:,.0f}"
    return f"{value:.3g}" if abs(value) >= 1e-4 else f"{value:.1e}"
