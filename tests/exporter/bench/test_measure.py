"""Statistics of paired timings, feeds of real text; no timing is asserted."""

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from headway.calibration.corpus import builtin_lines
from headway.exporter.bench.measure import (
    DEFAULT_CASES,
    BenchResult,
    Case,
    CaseResult,
    Contestant,
    feeds_for,
    measure,
    ratio_interval,
)
from headway.exporter.export import Exported


@settings(max_examples=30, deadline=None)
@given(st.integers(0, 10_000), st.floats(0.3, 3.0))
def test_interval_holds_a_known_ratio(seed: int, ratio: float) -> None:
    rng = np.random.default_rng(seed)
    drift = 1 + 0.5 * np.sin(np.arange(40) / 6)
    a = 10 * drift * rng.normal(1, 0.01, 40)
    middle, low, high = ratio_interval(a, a * ratio)
    assert low <= middle <= high
    assert middle == pytest.approx(ratio, rel=1e-9)
    assert low == pytest.approx(ratio, rel=1e-9)


def test_interval_against_brute_force() -> None:
    rng = np.random.default_rng(3)
    a, b = rng.uniform(1, 2, 15), rng.uniform(1, 2, 15)
    _, low, high = ratio_interval(a, b, draws=4000, seed=1)
    brute = []
    for _ in range(4000):
        picked = rng.integers(0, 15, 15)
        brute.append(np.median(b[picked]) / np.median(a[picked]))
    np.testing.assert_allclose([low, high], np.quantile(brute, [0.025, 0.975]), rtol=0.03)


@pytest.mark.parametrize("case", [Case(1, 32), Case(3, 16), Case(32, None)])
def test_feeds_have_the_shape_that_was_asked_for(case: Case, bert_bundle: Exported) -> None:
    from headway import Bundle

    encoder = Bundle.open(bert_bundle.path).encoder
    feeds = feeds_for(case, encoder, builtin_lines(), 64)
    mask = feeds["attention_mask"]
    assert mask.shape[0] == case.batch
    if case.length:
        assert mask.shape[1] == case.length
        assert mask.all()
    else:
        assert 0.3 < 1 - mask.mean() < 0.7
    again = feeds_for(case, encoder, builtin_lines(), 64)
    assert all(np.array_equal(feeds[k], again[k]) for k in feeds)


def test_throughput_is_in_tokens_per_second_at_the_median() -> None:
    result = CaseResult("1x8", 1, 40, 0.0, {"a": [10.0, 20.0, 90.0]})
    assert result.throughput("a") == pytest.approx(2000.0)


def test_rounds_alternate_and_survive_json() -> None:
    order: list[str] = []
    contestants = [Contestant(name, lambda _, name=name: order.append(name)) for name in ("a", "b")]
    feeds = {DEFAULT_CASES[0]: {"attention_mask": np.ones((1, 4), np.int64)}}
    result = measure(contestants, feeds, rounds=4, threads=1)
    assert order == ["a", "b", "a", "b", "b", "a", "a", "b", "b", "a"]
    back = BenchResult.from_json(result.to_json())
    assert back == result
    assert back.to_json()["cases"][0]["ratio_to_first"].keys() == {"b"}
