"""The measured table, and what is chosen from it."""

from collections.abc import Mapping

import numpy as np
import pytest

from headway.serving.speed_table import SIZES, SpeedTable, measure_speed


def linear(fixed: float, rate: float) -> SpeedTable:
    return SpeedTable(SIZES, tuple(fixed + rate * size for size in SIZES))


def test_seconds_between_and_beyond_the_rows() -> None:
    table = SpeedTable((10, 20), (1.0, 2.0))
    assert [table.of(n) for n in (10, 15, 40)] == [1.0, 1.5, 4.0]


@pytest.mark.parametrize("p99", [0.005, 0.02, 0.1, 1.0])
def test_two_batches_fit_into_the_latency(p99: float) -> None:
    table = linear(0.0005, 0.00005)
    assert 2 * table.of(table.budget(p99)) <= p99
    assert table.budget(p99) == max(n for n in SIZES if 2 * table.of(n) <= 0.9 * p99)  # larger is faster by token here


def test_a_batch_that_is_slower_by_token_is_not_chosen() -> None:
    table = SpeedTable((64, 128, 256), (0.01, 0.019, 0.06))
    assert table.budget(10.0) == 128


def test_of_batches_that_are_nearly_as_fast_by_token_the_largest_is_taken() -> None:
    assert SpeedTable((100, 194), (1.0, 2.0)).budget(10.0) == 194  # 97 % of the best
    assert SpeedTable((100, 193), (1.0, 2.0)).budget(10.0) == 100


def test_where_nothing_fits_the_smallest_is_taken() -> None:
    assert SpeedTable((16, 32), (0.5, 1.0)).budget(0.01) == 16


def test_a_batch_waits_no_longer_than_a_run_costs_by_itself() -> None:
    assert linear(0.002, 0.00001).wait(1.0) == pytest.approx(0.002, rel=0.01)
    assert linear(0.0, 0.0001).wait(1.0) == pytest.approx(0.0, abs=1e-6)
    tight = linear(0.02, 0.0001)
    assert tight.wait(0.06) <= 0.9 * 0.06 - 2 * tight.of(tight.budget(0.06)) + 1e-9
    assert SpeedTable((16,), (0.1,)).wait(0.01) == 0.0


class Clocked:
    """A runner whose batches take 1 ms and 10 µs for each token, by its own clock."""

    input_names = ("input_ids", "attention_mask")
    output_names = ("x",)
    vocabulary = 7

    def __init__(self) -> None:
        self.now = 0.0
        self.shapes: list[tuple[int, ...]] = []

    def run(self, feeds: Mapping[str, np.ndarray]) -> dict[str, np.ndarray]:
        assert set(feeds) == set(self.input_names) and feeds["input_ids"].max() < self.vocabulary
        self.shapes.append(feeds["input_ids"].shape)
        self.now += 0.001 + 0.00001 * feeds["input_ids"].size
        return {}


def test_it_is_measured_until_a_batch_takes_too_long() -> None:
    runner = Clocked()
    table = measure_speed(runner, 0.02, longest=512, vocabulary=7, clock=lambda: runner.now)
    assert table.sizes == tuple(n for n in SIZES if n <= 1024)  # 1024 tokens take 11 ms, more than half of 20
    assert table.seconds == pytest.approx([0.001 + 0.00001 * n for n in table.sizes])
    assert runner.shapes[0] == (1, 16) and runner.shapes[-1] == (32, 32)


def test_short_models_and_rows_of_several_texts() -> None:
    runner = Clocked()
    measure_speed(runner, 0.001, longest=8, vocabulary=7, several=True, clock=lambda: runner.now)
    assert runner.shapes[0] == (1, 2, 8)
