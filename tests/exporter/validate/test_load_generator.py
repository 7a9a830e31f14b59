"""LoadGen's scenarios: queries are answered, its verdict is read, and an error of the answer comes back."""

import time
from collections.abc import Sequence

import pytest

from headway.exporter.validate import load_generator
from headway.exporter.validate.load_generator import available, generate

needs_load_generator = pytest.mark.skipif(not available(), reason="mlperf_loadgen is not installed")


@needs_load_generator
@pytest.mark.parametrize("scenario", ["single-stream", "multi-stream", "offline", "server"])
def test_a_scenario_answers_queries_and_has_a_verdict(scenario: str) -> None:
    asked: list[int] = []

    def answer(indices: Sequence[int]) -> None:
        time.sleep(0.0005)
        asked.extend(indices)

    log = generate(scenario, answer, 20, seconds=0.05, least=70, expected_ms=0.5, rate=2000, bound_ms=200)
    assert asked and set(asked) <= set(range(20))
    assert len(log.wall_ms) == len(log.cpu_ms) == len(log.batch_ms) and all(ms >= 0 for ms in log.wall_ms)
    assert log.valid is not None and log.counts["queries"] >= 1
    sizes = {size for size, _ in log.batch_ms}
    assert sizes == {8} if scenario == "multi-stream" else max(sizes) <= (32 if scenario == "offline" else 1)
    if scenario == "single-stream":
        assert log.valid and log.early_stopping["early_stopping_p90_ms"] > 0


@needs_load_generator
@pytest.mark.parametrize("scenario", ["single-stream", "server"])
def test_an_error_of_the_answer_is_raised(scenario: str) -> None:
    def fail(_: object) -> None:
        raise MemoryError("full")

    with pytest.raises(MemoryError, match="full"):
        generate(scenario, fail, 5, seconds=0.02, rate=500)


def test_it_is_named_where_it_is_missing(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(load_generator, "find_spec", lambda _: None)
    assert not available()
