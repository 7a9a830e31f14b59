"""Histograms: exact counts, merging in any order, and ranges against float64 references on the values themselves."""

import numpy as np
from hypothesis import given, settings
from hypothesis import strategies as st
from hypothesis.extra import numpy as hnp

from headway.calibration.histogram import BINS, Histogram, exponent_for

ARRAYS = hnp.arrays(np.float32, st.integers(0, 40), elements=st.floats(allow_nan=False, allow_infinity=False, width=32))


def merged(*parts: Histogram) -> Histogram:
    whole = Histogram()
    for part in parts:
        whole.merge(part)
    return whole


@given(ARRAYS, ARRAYS, ARRAYS)
@settings(max_examples=200, deadline=None)
def test_merging_is_associative_and_commutative(a: np.ndarray, b: np.ndarray, c: np.ndarray) -> None:
    whole = Histogram.of(np.concatenate([a, b, c]))
    one, two, three = map(Histogram.of, (a, b, c))
    assert merged(merged(one, two), three) == merged(one, merged(two, three)) == merged(three, one, two) == whole
    streamed = Histogram()
    for part in (c, b, a):
        streamed.add(part)
    assert streamed == whole


@given(ARRAYS.filter(len))
@settings(max_examples=200, deadline=None)
def test_counts_are_numpys(values: np.ndarray) -> None:
    found = Histogram.of(values)
    exact = values.astype(np.float64)
    largest = np.abs(exact).max()
    assert found.exponent == exponent_for(largest)
    index = np.trunc(exact / found.width).astype(int)
    wanted = np.bincount(index + BINS - 1, minlength=2 * BINS - 1)
    assert np.array_equal(found.counts, wanted)
    assert (found.low, found.high) == (exact.min(), exact.max())
    assert found.total == len(values)
    if largest > 2.0**-108:
        assert found.width <= largest / (BINS // 2)
    assert np.array_equal(found.magnitudes(), np.bincount(np.abs(index), minlength=BINS))
