"""Axes hold their values and have few, round ticks."""

import math

import pytest
from hypothesis import given
from hypothesis import strategies as st

from headway.exporter.publish.html_report.axis_ticks import axis_over, shown

NUMBERS = st.lists(
    st.floats(-1e9, 1e9, allow_nan=False).filter(lambda x: x == 0 or abs(x) > 1e-6), min_size=1, max_size=8
)


@given(NUMBERS, st.booleans())
def test_a_linear_axis_holds_all_values_in_order(values: list[float], from_zero: bool) -> None:
    axis = axis_over(values, 40.0, 340.0, from_zero=from_zero)
    places = [axis.place(value) for value in sorted(values)]
    assert places == sorted(places) and places[0] >= 40 and places[-1] <= 340
    assert 1 <= len(axis.ticks) <= 7 and all(
        axis.low <= t <= axis.high or math.isclose(t, axis.low) for t in axis.ticks
    )
    assert not from_zero or axis.low <= 0 <= axis.high


@given(st.lists(st.floats(1e-6, 1e9), min_size=1, max_size=8))
def test_a_logarithmic_axis_holds_all_values_in_order(values: list[float]) -> None:
    axis = axis_over(values, 0.0, 100.0, logarithmic=True)
    places = [axis.place(value) for value in sorted(values)]
    assert axis.logarithmic and places == sorted(places) and 0 <= places[0] <= places[-1] <= 100
    assert 1 <= len(axis.ticks) <= 7


def test_ticks_are_round() -> None:
    assert axis_over([0.0, 10.0], 0, 1, from_zero=True).ticks == [0, 2.5, 5, 7.5, 10]
    assert axis_over([1.0, 1000.0], 0, 1, logarithmic=True).ticks == [1, 10, 100, 1000]
    assert axis_over([-1.0, 10.0], 0, 1, logarithmic=True).logarithmic is False


@pytest.mark.parametrize(
    ("value", "words"),
    [(0, "0"), (1234.5, "1,234"), (0.5, "0.5"), (12.345, "12.3"), (0.00001, "1.0e-05"), (-3.0, "-3")],
)
def test_figures_have_three_digits(value: float, words: str) -> None:
    assert shown(value) == words
