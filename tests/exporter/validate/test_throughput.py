"""Texts a second of batches."""

import numpy as np

from headway.exporter.validate.throughput import throughput_of


def test_texts_a_second_of_all_batches() -> None:
    sizes, ms = np.array([32, 32, 32, 32, 32, 4]), np.array([100.0, 100, 100, 100, 100, 20])
    figure = throughput_of(sizes, ms)
    assert figure is not None and figure.value == 164 / 0.52 and figure.low <= figure.value <= figure.high
    assert throughput_of(sizes[:5], ms[:5]) is None
