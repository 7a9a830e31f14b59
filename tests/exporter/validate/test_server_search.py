"""The search for the highest rate finds the capacity of a queue that can be computed."""

import pytest

from headway.exporter.validate.server_search import find_capacity

from tests.support.simulated import capacity, queue


@pytest.mark.parametrize("bound", [30.0, 60.0, 150.0])
def test_the_capacity_of_an_m_d_1_queue_is_found_within_5_percent(bound: float) -> None:
    sojourn = queue(10.0, 20_000)
    found = find_capacity(lambda rate: (int((sojourn(rate) > bound).sum()), 20_000), 10.0)
    assert found.rate == pytest.approx(capacity(10.0, bound), rel=0.05)
    assert found.rate < found.too_much and len(found.to_json()["trials"]) <= 16


def test_a_server_that_is_always_late_has_no_capacity() -> None:
    found = find_capacity(lambda _: (100, 100), 10.0)
    assert found.rate == 0 and found.too_much > 0
    assert len(found.trials) == 6  # each takes twice as long as the one before
