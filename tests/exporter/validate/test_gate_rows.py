"""Gates: pass, fail or undecided, and what would settle it."""

import pytest

from headway.exporter.validate.estimates import Estimate
from headway.exporter.validate.gate_rows import (
    Row,
    most_row,
    parity_row,
    quality_row,
    ratio_row,
    sorted_rows,
    verdict_of,
    wall_row,
)
from headway.exporter.validate.noise import Noise
from headway.exporter.validate.non_inferiority import Drop
from headway.exporter.validate.paired import Ratio

QUIET, LOUD = Noise(0.01, 1.0, 9), Noise(0.4, 80.0, 9)
FIGURE = Estimate(10.0, 9.0, 11.0, 1000)


def test_a_quiet_machine_decides_by_the_wall_clock() -> None:
    assert [wall_row("p50_ms", limit, FIGURE, None, QUIET).verdict for limit in (12, 10.5, 8)] == [
        "pass",
        "undecided",
        "fail",
    ]
    assert "times as much time would settle it" in wall_row("p50_ms", 10.5, FIGURE, None, QUIET).note
    assert "at the limit itself" in wall_row("p50_ms", 10.0, FIGURE, None, QUIET).note
    assert [wall_row("throughput", limit, FIGURE, None, QUIET).verdict for limit in (8, 12)] == ["pass", "fail"]


def test_noise_can_lengthen_a_time_and_never_shorten_it() -> None:
    assert wall_row("p99_ms", 12, FIGURE, None, LOUD).verdict == "pass"
    row = wall_row("p99_ms", 8, FIGURE, Estimate(7, 6.5, 7.5), LOUD)
    assert (row.verdict, row.figure) == (
        "undecided",
        None,
    ) and "40 % of the time away, at most 80 ms at once" in row.note
    row = wall_row("p99_ms", 5, FIGURE, Estimate(7, 6.5, 7.5), LOUD)
    assert row.verdict == "fail" and row.figure is not None and row.figure.value == 7


def test_too_few_samples_give_no_figure() -> None:
    row = wall_row("p99_ms", 20, None, None, QUIET, 144)
    assert (row.verdict, row.figure) == ("undecided", None) and "144 samples are too few, 500 independent" in row.note


@pytest.mark.parametrize(("ratio", "verdict"), [(1.0, "pass"), (1.05, "undecided"), (1.2, "fail")])
def test_a_ratio_of_latencies_is_judged_as_a_speed(ratio: float, verdict: str) -> None:
    row = ratio_row(0.95, Ratio(Estimate(ratio, ratio * 0.98, ratio * 1.02), 0.031, narrow=True), "the lock")
    assert row.verdict == verdict and "a slowdown of 3.1 % would be found" in row.note
    assert row.figure is not None and row.figure.low < row.figure.value < row.figure.high


def test_a_speed_that_is_asked_for_is_no_slowdown_that_is_allowed() -> None:
    row = ratio_row(2.0, Ratio(Estimate(0.45, 0.44, 0.46), 2 * 1.03 - 1, narrow=True), "the source")
    assert row.verdict == "pass" and "a speed of 1.94× or less would be found" in row.note


def test_a_lock_of_a_quieter_machine_does_not_fail_what_is_a_little_slower() -> None:
    for ratio, verdict in ((1.0, "pass"), (1.09, "undecided"), (1.2, "fail")):
        found = Ratio(Estimate(ratio, ratio * 0.98, ratio * 1.02), 0.031, narrow=True)
        row = ratio_row(0.95, found, "the lock", busier=True)
        assert row.verdict == verdict and ("busier than when the lock was written" in row.note) == (ratio == 1.09)


def test_sizes_and_cold_starts() -> None:
    assert most_row("max_mb", 90, Estimate.exact(91)).verdict == "fail"
    assert most_row("max_rss_mb", 90, None).verdict == "undecided"
    assert most_row("cold_start_ms", 12, FIGURE, LOUD).verdict == "pass"
    assert most_row("cold_start_ms", 8, FIGURE, LOUD).verdict == "undecided"
    assert most_row("cold_start_ms", 8, FIGURE, QUIET).verdict == "fail"


@pytest.mark.parametrize(
    ("metric", "count", "allowed", "high", "words"),
    [
        ("accuracy", 100, 1.0, 3.6, "100 texts are too few for such a statement: label 368 at least"),
        ("accuracy", 5000, 1.0, 1.5, "times as much texts would settle it"),
        ("Spearman", 100, 1.0, 1.5, "times as much texts would settle it"),
        ("accuracy", 5000, 0.0, 0.1, "no number of texts shows that nothing is lost"),
    ],
)
def test_an_undecided_quality_says_what_it_needs(
    metric: str, count: int, allowed: float, high: float, words: str
) -> None:
    row = quality_row(Drop(metric, 80.0, 80.5, Estimate(0.5, -0.5, high, count), allowed, 0.9))
    assert row.verdict == "undecided" and words in row.note


def test_the_worst_row_is_the_verdict_and_rows_have_an_order() -> None:
    rows = [parity_row(True, "12 batches"), Row("p50_ms", 1, None, "undecided"), Row("p99_ms", 1, None, "fail")]
    assert [verdict_of(rows[:n]) for n in range(4)] == ["pass", "pass", "undecided", "fail"]
    assert [row.gate for row in sorted_rows(rows)] == ["p50_ms", "p99_ms", "parity"]
    assert parity_row(False, "").verdict == "fail"
    assert rows[1].to_json()["unit"] == "ms"
