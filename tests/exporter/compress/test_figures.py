"""Figures as functions of how often a text counts, against numpy on the texts that are drawn."""

from collections.abc import Callable

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from scipy import stats

from headway.calibration.interval import multiplicities
from headway.exporter.compress.figures import (
    Statistic,
    combined,
    concordance,
    constant,
    correlation,
    f1,
    interval_of,
    mean,
    pair_correlation,
    ranks,
    value_of,
)

TEXTS = 12
RANDOM = np.random.default_rng(0)
A, B = RANDOM.normal(size=(2, TEXTS))
GIVEN, WANTED = RANDOM.random((2, TEXTS, 3)) > 0.5
TOTALS, SIZES = RANDOM.random(TEXTS), RANDOM.integers(1, 9, TEXTS)
PICKS = RANDOM.integers(0, TEXTS, (50, TEXTS))


def of_texts(x: np.ndarray) -> np.ndarray:
    return (x + x.T) / 2


P, Q = of_texts(RANDOM.normal(size=(TEXTS, TEXTS))), of_texts(RANDOM.normal(size=(TEXTS, TEXTS)))


def lin(a: np.ndarray, b: np.ndarray) -> float:
    return float(2 * np.cov(a, b, bias=True)[0, 1] / (a.var() + b.var() + (a.mean() - b.mean()) ** 2))


def harmonic(chosen: np.ndarray, right: np.ndarray) -> float:
    hits = (chosen & right).sum()
    precision, recall = hits / chosen.sum(), hits / right.sum()
    return float(2 * precision * recall / (precision + recall))


def pairs_of(x: np.ndarray, drawn: np.ndarray) -> np.ndarray:
    return np.array([x[i, j] for n, i in enumerate(drawn) for j in drawn[n + 1 :] if i != j])


CASES: dict[str, tuple[Statistic, Callable[[np.ndarray], float]]] = {
    "mean": (mean(TOTALS), lambda d: float(TOTALS[d].mean())),
    "mean of parts": (mean(TOTALS, SIZES), lambda d: float(TOTALS[d].sum() / SIZES[d].sum())),
    "F1": (f1(GIVEN, WANTED), lambda d: harmonic(GIVEN[d], WANTED[d])),
    "correlation": (correlation(A, B), lambda d: float(np.corrcoef(A[d], B[d])[0, 1])),
    "concordance": (concordance(A, B), lambda d: lin(A[d], B[d])),
    "pairs": (pair_correlation(P, Q), lambda d: float(np.corrcoef(pairs_of(P, d), pairs_of(Q, d))[0, 1])),
    "sum": (combined([mean(TOTALS), constant(2.0)], [3.0, -1.0]), lambda d: float(3 * TOTALS[d].mean() - 2)),
}


@pytest.mark.parametrize("name", CASES)
def test_a_figure_of_drawn_texts_is_numpys(name: str) -> None:
    statistic, by_hand = CASES[name]
    np.testing.assert_allclose(statistic(multiplicities(PICKS)), [by_hand(drawn) for drawn in PICKS], atol=1e-9)
    assert value_of(statistic, TEXTS) == pytest.approx(by_hand(np.arange(TEXTS)))
    low, high = interval_of(statistic, TEXTS)
    assert low <= value_of(statistic, TEXTS) <= high and low < high


def test_values_of_parts_are_those_of_their_texts() -> None:
    owners = np.array([0, 0, 1, 2, 2, 2])
    a, b = RANDOM.normal(size=(2, 6))
    drawn = np.array([[0, 2, 2, 3]])  # text 3 has no parts
    parts = np.array([0, 1, 3, 4, 5, 3, 4, 5])
    wanted = np.corrcoef(a[parts], b[parts])[0, 1]
    assert correlation(a, b, owners, 4)(multiplicities(drawn))[0] == pytest.approx(wanted)


def test_what_is_constant_on_one_side_alone_has_nothing_in_common() -> None:
    """Else a model that gives every text the same answer would agree with its source."""
    same = np.full(TEXTS, 0.7)
    assert value_of(correlation(A, same), TEXTS) == value_of(correlation(same, A), TEXTS) == 0
    assert value_of(correlation(same, same + 1), TEXTS) == 1
    assert value_of(pair_correlation(P, np.full((TEXTS, TEXTS), 0.7)), TEXTS) == 0
    assert value_of(f1(np.zeros((2, 3), bool), np.zeros((2, 3), bool)), 2) == 1


def test_two_texts_have_a_concordance() -> None:
    a, b = np.array([0.0, 1.0]), np.array([1.0, 0.0])
    assert value_of(concordance(a, b), 2) == pytest.approx(lin(a, b)) == -1
    assert value_of(concordance(a, a), 2) == 1
    assert value_of(concordance(a[1:], a[1:] - 0.25), 1) == 0.75  # one text varies in nothing: how near it is counts


@given(st.lists(st.integers(0, 4), min_size=1, max_size=30))
def test_ranks_are_scipys(values: list[int]) -> None:
    assert ranks(np.array(values)).tolist() == stats.rankdata(values).tolist()
