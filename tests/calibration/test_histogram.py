"""Histograms: exact counts, merging in any order, and ranges against float64 references on the values themselves."""

from typing import get_args

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from hypothesis.extra import numpy as hnp

from headway.calibration.histogram import BINS, Histogram, Method, exponent_for, kl_divergences, kl_threshold

ARRAYS = hnp.arrays(np.float32, st.integers(0, 40), elements=st.floats(allow_nan=False, allow_infinity=False, width=32))


def merged(*parts: Histogram) -> Histogram:
    total = Histogram()
    for part in parts:
        total.merge(part)
    return total


@given(ARRAYS, ARRAYS, ARRAYS)
@settings(max_examples=200, deadline=None)
def test_merging_is_associative_and_commutative(a: np.ndarray, b: np.ndarray, c: np.ndarray) -> None:
    at_once = Histogram.of(np.concatenate([a, b, c]))
    first, second, third = map(Histogram.of, (a, b, c))
    assert (
        merged(merged(first, second), third)
        == merged(first, merged(second, third))
        == merged(third, first, second)
        == at_once
    )
    streamed = Histogram()
    for part in (c, b, a):
        streamed.add(part)
    assert streamed == at_once


@given(ARRAYS.filter(len))
@settings(max_examples=200, deadline=None)
def test_counts_are_numpys(values: np.ndarray) -> None:
    histogram = Histogram.of(values)
    exact = values.astype(np.float64)
    largest = np.abs(exact).max()
    assert histogram.exponent == exponent_for(largest)
    index = np.trunc(exact / histogram.width).astype(int)
    wanted = np.bincount(index + BINS - 1, minlength=2 * BINS - 1)
    assert np.array_equal(histogram.counts, wanted)
    assert (histogram.low, histogram.high) == (exact.min(), exact.max())
    assert histogram.total == len(values)
    if largest > 2.0**-108:
        assert histogram.width <= largest / (BINS // 2)
    assert np.array_equal(histogram.magnitudes(), np.bincount(np.abs(index), minlength=BINS))


def values_of(seed: int, kind: str) -> np.ndarray:
    rng = np.random.default_rng(seed)
    x = rng.standard_normal(4000) * np.exp(rng.normal())
    if kind == "outliers":
        x[:8] *= 30
    elif kind == "one-sided":
        x = np.maximum(x, 0)
    elif kind == "gelu":
        x = x * 0.5 * (1 + np.tanh(x))
    elif kind == "below":
        x = -np.abs(x)
    elif kind == "shifted":
        x = x + 4 * np.abs(x).max()
    return x.astype(np.float32)


KINDS = st.sampled_from(["normal", "outliers", "one-sided", "gelu", "below", "shifted"])


@given(st.integers(0, 50), KINDS, st.sampled_from([90.0, 99.0, 99.9, 99.999, 100.0]))
@settings(max_examples=80, deadline=None)
def test_percentiles_are_numpys_to_one_bin(seed: int, kind: str, percentile: float) -> None:
    x = values_of(seed, kind)
    histogram = Histogram.of(x)
    exact = np.sort(x.astype(np.float64))
    cut = int(np.floor((100 - percentile) / 200 * len(x)))
    low, high = histogram.range("percentile", percentile=percentile)
    assert low == pytest.approx(min(exact[cut], 0), abs=histogram.width * 1.0001)
    assert high == pytest.approx(max(exact[len(x) - 1 - cut], 0), abs=histogram.width * 1.0001)
    assert low <= min(exact[cut], 0) and high >= max(exact[len(x) - 1 - cut], 0)
    reach = histogram.range("percentile", percentile=percentile, symmetric=True)[1]
    magnitudes = np.sort(np.abs(exact))
    wanted = magnitudes[max(int(np.ceil(percentile / 100 * len(x))) - 1, 0)]
    assert wanted <= reach <= wanted + histogram.width * 1.0001


def divergence(counts: np.ndarray, end: int, levels: int) -> float:
    """Return the procedure written out: clip, quantize, expand, compare."""
    p = counts[:end].astype(np.float64).copy()
    inside = p.copy()
    p[-1] += counts[end:].sum()
    q = np.zeros(end)
    for level in range(levels):
        run = slice(level * end // levels, (level + 1) * end // levels)
        filled = p[run] > 0
        if filled.any():
            q[run][filled] = inside[run].sum() / filled.sum()
    if not q.any():
        return float("inf")
    p, q = p / p.sum(), q / q.sum()
    with np.errstate(divide="ignore"):
        return float(np.sum(p[p > 0] * np.log(p[p > 0] / q[p > 0])))


@given(st.integers(0, 30), KINDS, st.sampled_from([16, 128, 200, 256]))
@settings(max_examples=25, deadline=None)
def test_entropy_is_the_procedure_written_out(seed: int, kind: str, levels: int) -> None:
    histogram = Histogram.of(values_of(seed, kind))
    counts = histogram.magnitudes().reshape(2048, -1).sum(axis=1)
    used = int(np.flatnonzero(counts)[-1]) + 1
    ends = np.unique(np.linspace(levels, used, 40).astype(int)) if used > levels else np.array([used])
    if used > levels:
        wanted = [divergence(counts, int(e), levels) for e in ends]
        assert np.allclose(kl_divergences(counts.astype(np.float64), ends, levels), wanted, rtol=1e-9, atol=1e-12)
        every = np.arange(levels, used + 1)
        best = every[int(np.argmin(kl_divergences(counts.astype(np.float64), every, levels)))]
        threshold = kl_threshold(histogram, levels)
        assert threshold == min(best * histogram.width * 2, histogram.largest)
        assert divergence(counts, int(best), levels) <= min(wanted) + 1e-12
    low, high = histogram.range("entropy")
    assert min(histogram.low, 0) <= low <= 0 <= high <= max(histogram.high, 0)


def exact_error(x: np.ndarray, low: float, high: float, bits: int, symmetric: bool) -> float:
    """Quantize and dequantize every value in float64."""
    if symmetric:
        scale, least, most, zero = high / (2 ** (bits - 1) - 1), -(2 ** (bits - 1)) + 1, 2 ** (bits - 1) - 1, 0.0
    else:
        scale, least, most = (high - low) / (2**bits - 1), 0, 2**bits - 1
        zero = np.rint(-low / scale)
    codes = np.clip(np.rint(x / scale) + zero, least, most)
    return float(np.mean(np.square(x - (codes - zero) * scale)))


@given(st.integers(0, 30), KINDS, st.sampled_from([4, 8]), st.booleans())
@settings(max_examples=25, deadline=None)
def test_mse_is_as_good_as_a_search_over_the_values(seed: int, kind: str, bits: int, symmetric: bool) -> None:
    x = values_of(seed, kind).astype(np.float64)
    histogram = Histogram.of(x.astype(np.float32))
    low, high = histogram.range("mse", bits=bits, symmetric=symmetric)
    assert low <= 0 <= high
    full = (min(x.min(), 0), max(x.max(), 0))
    full = (-max(-full[0], full[1]), max(-full[0], full[1])) if symmetric else full
    error = exact_error(x, low, high, bits, symmetric)
    best = min(exact_error(x, a * full[0], a * full[1], bits, symmetric) for a in np.linspace(0.02, 1, 99))
    assert error <= 1.03 * best + histogram.width**2
    if symmetric:
        assert low == -high


@given(st.integers(-(2**24), 2**24).map(lambda n: n * 2.0**40), st.integers(1, 5))
@settings(max_examples=60, deadline=None)
def test_constant_values(value: float, count: int) -> None:
    """Every method gives a finite range that holds the value and zero; of zeros the range is (0, 0)."""
    histogram = Histogram.of(np.full(count, value, np.float32))
    for method in get_args(Method):
        for symmetric in (False, True):
            low, high = histogram.range(method, symmetric=symmetric)
            assert low <= 0 <= high and np.isfinite([low, high]).all()
            if method == "min-max":
                assert low <= value <= high
            if value == 0:
                assert (low, high) == (0, 0)
            elif abs(value) > 1e-30:
                assert max(-low, high) == pytest.approx(abs(value), rel=0.01)


def test_one_sided_ranges_stay_one_sided() -> None:
    x = np.abs(values_of(1, "normal"))
    for method in get_args(Method):
        assert Histogram.of(x).range(method)[0] == 0
        assert Histogram.of(-x).range(method)[1] == 0
    assert Histogram().range("entropy") == (0, 0)


def test_levels_of_an_asymmetric_range_are_those_of_its_longer_side() -> None:
    x = values_of(3, "outliers")
    both, positive, mostly = Histogram.of(x), Histogram.of(np.abs(x)), Histogram.of(np.where(x > 0, x, x / 100))
    assert both.range("entropy", symmetric=True)[1] == kl_threshold(both, 128)
    assert positive.range("entropy")[1] == kl_threshold(positive, 256)
    assert positive.range("entropy", bits=4)[1] == kl_threshold(positive, 16)
    levels = int(256 * mostly.largest / (mostly.high - mostly.low))
    assert 200 < levels < 256 and mostly.range("entropy")[1] == kl_threshold(mostly, levels)


def test_a_clip_is_chosen_where_it_pays() -> None:
    """A few far outliers: every method but min-max cuts them off for 4 bits."""
    x = np.random.default_rng(0).standard_normal(100_000).astype(np.float32)
    x[:3] = 80
    histogram = Histogram.of(x)
    assert histogram.range("min-max")[1] == 80
    for method in ("percentile", "entropy", "mse"):
        assert histogram.range(method, percentile=99.9, bits=4)[1] < 40
