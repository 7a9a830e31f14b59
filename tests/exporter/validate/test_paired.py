"""Paired ratios: intervals, verdicts and budgets on machines whose laws are known; all 1,000 simulations are in `benchmarks`."""

import math

import numpy as np
import pytest

from headway.exporter.validate.estimates import at_most
from headway.exporter.validate.paired import LEAST_BLOCKS, Ratio, Rule, block_of, measure_ratio, middle, ratio_of

from tests.support.simulated import Machine

LIMIT = 1 / 0.95


def measured(law: str, slowdown: float, seed: int, rule: Rule) -> tuple[Ratio, int]:
    machine = Machine(law, seed=seed)
    ratio, blocks = measure_ratio(lambda: block_of(*machine.block(slowdown)), rule, machine.clock)
    return ratio, len(blocks)


@pytest.mark.parametrize("law", ["constant", "bimodal", "bursts"])
def test_a_slowdown_is_found_and_none_is_invented(law: str) -> None:
    rule = Rule(0.012, 60, LIMIT)
    for seed in range(12):
        assert at_most(measured(law, 1.0, seed, rule)[0].estimate, LIMIT) == "pass"
        assert at_most(measured(law, 1.1, seed, rule)[0].estimate, LIMIT) == "fail"


def test_what_lies_at_the_limit_stays_undecided_and_costs_the_budget() -> None:
    machine = Machine("bursts", seed=4)
    ratio, blocks = measure_ratio(lambda: block_of(*machine.block(LIMIT)), Rule(0.0, 20, LIMIT), machine.clock)
    assert at_most(ratio.estimate, LIMIT) == "undecided" and not ratio.narrow
    assert machine.now <= 20 and len(blocks) > LEAST_BLOCKS


def test_a_narrow_interval_that_holds_the_limit_is_not_the_end() -> None:
    def measured_until(limit: float | None) -> tuple[Ratio, float]:
        machine = Machine("constant", seed=3)
        rule = Rule(0.02, 60, limit)
        ratio, _ = measure_ratio(lambda: block_of(*machine.block(LIMIT)), rule, machine.clock)
        return ratio, machine.now

    (without, soon), (ratio, late) = measured_until(None), measured_until(LIMIT)
    assert without.narrow and soon < 20
    assert ratio.narrow and ratio.estimate.low <= LIMIT <= ratio.estimate.high and late > 50


def test_without_a_limit_it_goes_on_until_the_interval_is_narrow() -> None:
    ratio, count = measured("constant", 1.1, 0, Rule(0.0015, 600))
    assert ratio.narrow and ratio.half_width <= 0.0015 and count > LEAST_BLOCKS


def test_the_smallest_slowdown_that_would_be_found_is_said() -> None:
    blocks = np.random.default_rng(0).normal(0, 0.01, 40)
    ratio = ratio_of(blocks, margin=math.log(LIMIT))
    error = 0.01 / math.sqrt(40)
    assert ratio.detectable == pytest.approx(LIMIT * math.exp(2.8 * error) - 1, rel=0.05)
    assert ratio.half_width == pytest.approx(1.96 * error, rel=0.3)


def test_two_runs_are_compared_with_the_errors_of_both() -> None:
    rng = np.random.default_rng(1)
    then, now = rng.normal(0.7, 0.02, 30), rng.normal(0.7 + math.log(1.2), 0.02, 30)
    ratio = ratio_of(now, then)
    assert ratio.estimate.low <= 1.2 <= ratio.estimate.high
    assert ratio.half_width > ratio_of(now).half_width


def test_a_block_takes_the_least_time_of_each_shape() -> None:
    own, first = np.array([[2.0, 9.0], [4.0, 6.0]]), np.array([[1.0, 3.0], [5.0, 8.0]])
    assert block_of(own, first) == pytest.approx((math.log(2) + math.log(2)) / 2)


def test_the_middle_leaves_out_the_ends() -> None:
    assert middle(np.array([0.0] * 9 + [1000.0])) == 0
    assert middle(np.array([1.0, 3.0])) == 2
