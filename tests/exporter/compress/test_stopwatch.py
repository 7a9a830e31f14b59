"""How time is taken: in pairs, by the processor's clock, until it is known well enough."""

import time
from pathlib import Path

import numpy as np
import pytest

from headway.exporter.compress import stopwatch
from headway.exporter.compress.stopwatch import Stopwatch, Timing, Workload, time_beside, time_in_sessions
from headway.exporter.targets.ort.target import OrtTarget

from tests.support.evidence import WORK


class Sleeper:
    input_names = ("input_ids",)

    def __init__(self, seconds: float = 0.0):
        self.seconds, self.runs = seconds, 0

    def run(self, feeds) -> dict[str, np.ndarray]:
        self.runs += 1
        time.sleep(self.seconds)
        return {}


def test_time_that_others_had_the_core_does_not_count() -> None:
    """A run that is kept waiting takes no longer than one that is not."""
    timing = time_beside(Sleeper(), Sleeper(0.02), WORK, rounds=5)  # type: ignore[arg-type]
    assert timing.first_ms < 10 and timing.own_ms < 10


def test_workload_follows_the_text() -> None:
    made = Workload.of(np.arange(1, 101))
    assert made.shapes == ((1, 13), (1, 38), (1, 63), (1, 88))
    feeds = made.feeds(["input_ids", "attention_mask"])
    assert feeds[0]["input_ids"].shape == (1, 13) and feeds[0]["attention_mask"].all()


def test_a_workload_s_ids_are_in_the_smallest_vocabulary() -> None:
    (feeds,) = Workload(((8, 64),)).feeds(("input_ids",))
    assert feeds["input_ids"].shape == (8, 64) and feeds["input_ids"].max() < 6


@pytest.mark.parametrize("noise", [0.0, 0.02, 0.3])
def test_the_interval_holds_the_ratio_and_is_as_wide_as_the_noise(noise: float) -> None:
    rng = np.random.default_rng(0)
    times = np.stack([np.full((40, 3), 2.0), np.full((40, 3), 1.0)], axis=-1) * rng.uniform(1, 1 + noise, (40, 3, 2))
    timing = Timing.of(times)
    assert timing.low <= timing.ratio <= timing.high and timing.ratio == pytest.approx(0.5, rel=noise + 1e-9)
    assert timing.half_width <= noise / 2 + 1e-9
    assert timing.is_narrow == (timing.half_width <= stopwatch.RESOLUTION_MS / timing.first_ms)
    assert Timing.of(times) == timing


def test_shapes_count_alike_and_a_slow_round_does_not(monkeypatch: pytest.MonkeyPatch) -> None:
    times = np.ones((9, 2, 2))
    times[:, 1] = 3.0
    times[0] *= 100
    assert Timing.of(times).first_ms == 2.0


def test_rounds_are_added_until_the_interval_is_narrow(monkeypatch: pytest.MonkeyPatch) -> None:
    """Of a machine that is busy more rounds are asked, but not without end."""
    clock = np.cumsum(np.random.default_rng(0).uniform(1e6, 9e6, 100_000)).astype(int)
    ticks = iter(clock)
    monkeypatch.setattr(stopwatch.time, "thread_time_ns", lambda: int(next(ticks)))
    busy = Sleeper()
    time_beside(busy, Sleeper(), WORK, rounds=4)  # type: ignore[arg-type]
    assert busy.runs == 60 + 1
    sessions = [(Sleeper(), Sleeper()) for _ in range(3)]
    time_in_sessions(sessions, [WORK], rounds=4)  # type: ignore[arg-type]
    assert [first.runs for first, _ in sessions] == [5, 5, 52 + 1]  # the last goes on alone
    even = iter(range(0, 10**12, 10**6))
    monkeypatch.setattr(stopwatch.time, "thread_time_ns", lambda: next(even))
    idle = Sleeper()
    assert time_beside(idle, Sleeper(), WORK, rounds=4).ratio == 1.0  # type: ignore[arg-type]
    assert idle.runs == 4 + 1


def test_threads_that_wait_for_each_other_are_timed_by_the_wall_clock(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(stopwatch, "IDLE_SECONDS", 0.0)
    monkeypatch.setattr(stopwatch, "_MOST_ROUNDS", 3)
    timing = time_beside(Sleeper(), Sleeper(0.005), Workload(((1, 9),), threads=2), rounds=3)  # type: ignore[arg-type]
    assert timing.own_ms >= 5


def test_a_model_is_timed_beside_the_source_and_at_each_shape(model, tmp_path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(stopwatch, "_MOST_ROUNDS", 3)
    watch = Stopwatch(model, WORK, OrtTarget(), tmp_path)
    timing, nbytes = watch.time(model)
    assert (
        watch.source_ms == timing.first_ms > 0
        and nbytes > sum(v.const_value.nbytes for v in model.graph.initializers.values()) / 2
    )
    watch.time(model)
    assert watch.source_ms == timing.first_ms  # the scale is that of the first
    assert len(watch.time_at(model, [(1, 4), (2, 8)])) == 2
    opened: list[Path] = []
    real = OrtTarget.open
    monkeypatch.setattr(OrtTarget, "open", lambda self, place, *a: opened.append(place) or real(self, place, *a))
    watch.time(model)
    assert len(opened) == 6 and opened[::2] == [tmp_path / "baseline"] * 3  # new sessions of both
    watch.time_at(model, [(1, 4), (2, 8), (1, 16)])
    assert len(opened) == 12  # all shapes in the same sessions
    assert [p.name for p in tmp_path.iterdir()] == ["baseline"]
