"""The interval of a statistic over resampled items."""

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from headway.calibration.interval import interval, multiplicities


def test_the_interval_of_a_mean_is_that_of_its_standard_error() -> None:
    values = np.random.default_rng(1).normal(5, 2, 400)
    low, high = interval(lambda picks: values[picks].mean(axis=1), 400)
    wide = 1.96 * values.std() / 20
    assert (low, high) == pytest.approx((values.mean() - wide, values.mean() + wide), abs=0.02)
    assert interval(lambda picks: values[picks].mean(axis=1), 400) == (low, high)
    assert interval(lambda picks: values[picks].mean(axis=1), 400, seed=1) != (low, high)


@given(st.integers(1, 20), st.integers(1, 8), st.integers(0, 99))
def test_multiplicities_count_every_draw(count: int, draws: int, seed: int) -> None:
    picks = np.random.default_rng(seed).integers(0, count, (draws, count))
    times = multiplicities(picks)
    assert times.shape == picks.shape
    for row, drawn in zip(times, picks, strict=True):
        assert row.tolist() == [(drawn == i).sum() for i in range(count)]
