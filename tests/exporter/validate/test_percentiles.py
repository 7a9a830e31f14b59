"""Percentiles of latencies: intervals that hold, and none from too few samples."""

import numpy as np
import pytest

from headway.exporter.validate.percentiles import independent, least_samples, median_of, percentile

from tests.support.simulated import Machine, true_percentile


@pytest.mark.parametrize("law", ["constant", "bimodal"])
def test_intervals_hold_the_truth(law: str) -> None:
    for q in (50, 90, 99):
        figures = [percentile(Machine(law, seed=seed).calls(1500), q) for seed in range(40)]
        truth = true_percentile(law, q)
        held = sum(figure is not None and figure.low <= truth <= figure.high for figure in figures)
        assert held >= 33, (law, q, held)  # 40 of which 95 % hold: fewer than 33 once in 600 times


def test_too_few_samples_give_no_percentile() -> None:
    samples = np.random.default_rng(0).normal(10, 1, 499)
    assert percentile(samples, 99) is None and percentile(samples, 90) is not None
    assert least_samples(99) == 500 and least_samples(50) == 20
    assert percentile(samples[:19], 50) is None


def test_a_drift_widens_the_interval_and_takes_the_p99_away() -> None:
    samples = Machine("drifting", seed=1).calls(2000)
    mixed = np.random.default_rng(0).permutation(samples)
    slow, quick = percentile(samples, 50), percentile(mixed, 50)
    assert slow is not None and quick is not None
    assert slow.high - slow.low > 2 * (quick.high - quick.low)
    assert percentile(samples, 99) is None  # two seconds hold too few turns of the drift


def test_equal_samples_have_an_interval_without_width() -> None:
    figure = percentile(np.full(1000, 5.0), 99)
    assert figure is not None and (figure.low, figure.value, figure.high) == (5.0, 5.0, 5.0)


def test_neighbors_that_resemble_each_other_count_less() -> None:
    rng = np.random.default_rng(0)
    noise = rng.normal(size=4000)
    assert independent(noise)[0] == pytest.approx(4000, rel=0.3)
    assert independent(np.repeat(noise[:400], 10))[0] == pytest.approx(400, rel=0.4)


def test_the_median_of_few_processes() -> None:
    assert median_of([1, 2, 3, 4, 5]) is None
    figure = median_of([6, 5, 4, 3, 2, 1])
    assert figure is not None and (figure.low, figure.value, figure.high) == (1, 3.5, 6)  # 1 - 2 / 64 = 97 %
    figure = median_of(list(range(9)))
    assert figure is not None and (figure.low, figure.high) == (1, 7)
