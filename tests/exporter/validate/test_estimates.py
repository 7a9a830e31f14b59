"""Figures with intervals: limits, Student's t, and how wide few items make an interval."""

import numpy as np
import pytest
from scipy import stats

from headway.exporter.validate.estimates import Estimate, at_least, at_most, t_quantile, widened


def test_a_limit_is_decided_by_the_whole_interval() -> None:
    figure = Estimate(10.0, 9.0, 11.0)
    assert [at_most(figure, x) for x in (11, 10, 8.9)] == ["pass", "undecided", "fail"]
    assert [at_least(figure, x) for x in (9, 10, 11.1)] == ["pass", "undecided", "fail"]
    assert at_most(Estimate.exact(3), 3) == "pass"


def test_an_estimate_survives_json_and_changes_its_unit() -> None:
    figure = Estimate(2.0, 1.0, 3.0, 7)
    assert Estimate.from_json(figure.to_json()) == figure
    assert figure.map(10) == Estimate(20.0, 10.0, 30.0, 7)


@pytest.mark.parametrize("degrees", [3, 5, 11, 30, 300])
def test_t_is_that_of_scipy(degrees: int) -> None:
    assert t_quantile(degrees) == pytest.approx(stats.t.ppf(0.975, degrees), rel=5e-3)  # the expansion is worst at 3


def test_few_items_widen_an_interval() -> None:
    low, high = widened(10)
    assert low < 0.025 < 0.975 < high and low + high == pytest.approx(1)
    assert np.allclose(widened(100_000), (0.025, 0.975), atol=1e-5)
