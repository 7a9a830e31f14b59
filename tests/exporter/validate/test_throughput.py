"""Texts a second of batches."""

import numpy as np

from headway.exporter.validate.throughput import throughput_of


def test_texts_a_second_of_all_batches() -> None:
    sizes, ms = np.array([32, 32, 32, 32, 32, 4]), np.array([100.0, 100, 100, 100, 100, 20])
    figure = throughput_of(sizes, ms)
    assert figure is not None and figure.value == 164 / 0.52 and figure.low <= figure.value <= figure.high
    assert throughput_of(sizes[:5], ms[:5]) is None


def test_the_interval_of_few_batches_holds_as_often_as_it_says() -> None:
    """Cut at 2.5 and 97.5 % the draws of 6 batches would hold the truth in 87 % of runs."""
    rng = np.random.default_rng(0)
    sizes = np.full(6, 32)
    figures = [throughput_of(sizes, rng.gamma(20.0, 5.0, 6)) for _ in range(300)]
    held = [f is not None and f.low <= 320 <= f.high for f in figures]
    assert 0.92 <= np.mean(held) <= 0.99
