"""The latency table and how time is taken: costs never fall as levels rise, nor below zero."""

import time
from pathlib import Path

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from headway.errors import HeadwayWarning
from headway.exporter.compress import latency
from headway.exporter.compress.evidence import Evidence
from headway.exporter.compress.latency import LatencyTable, Workload, measure_table, paired_times, part_matrices
from headway.exporter.compress.search import choose, find_parts
from headway.exporter.graph.anatomy import read_anatomy
from headway.exporter.passes.lowrank import break_even
from headway.exporter.targets.ort import target as ort

from tests.support.evidence import WORK


def test_noise_makes_no_cost_negative(
    model, evidence: Evidence, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """On a busy machine a cut model may look slower than the whole one."""
    rng = np.random.default_rng(0)
    monkeypatch.setattr(latency, "paired_times", lambda *_, **__: [1.0, float(rng.uniform(0.2, 1.5))])
    found = measure_table(model, WORK, ort.SPEC, cache=tmp_path)
    tables = (found.heads, found.neurons, found.attention_rank, found.neuron_rank)
    assert min(cost for costs in tables for cost in costs.values()) == 0
    assert found.rest <= found.full
    parts = find_parts(model, read_anatomy(model), evidence, found, ort.SPEC)
    choose(parts, read_anatomy(model), 0.5 * sum(max(o.cost for o in p.options) for p in parts))


def test_latency_table_is_measured_once_and_read_again(model, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(latency, "IDLE_SECONDS", 0.0)
    told: list[str] = []
    first = measure_table(model, WORK, ort.SPEC, cache=tmp_path, on_level=lambda name, **_: told.append(name))
    assert told and first.full > 0 and set(first.heads) == {0, 1, 2, 3, 4} and max(first.neurons) == 256
    assert first.heads[0] == 0 and first.neurons[0] == 0
    again = measure_table(
        model, WORK, ort.SPEC, cache=tmp_path, on_level=lambda *_, **__: pytest.fail("measured again")
    )
    assert again == first
    next(tmp_path.glob("*.json")).write_text('{"target": ')  # damaged: measured again
    assert measure_table(model, WORK, ort.SPEC, cache=tmp_path).heads.keys() == first.heads.keys()
    other = Workload(((1, 9),), threads=2)
    told.clear()
    measure_table(model, other, ort.SPEC, cache=tmp_path, on_level=lambda name, **_: told.append(name))
    assert told and len(list(tmp_path.glob("*.json"))) == 2


def test_a_workload_s_ids_are_in_the_smallest_vocabulary() -> None:
    (feeds,) = Workload(((8, 64),)).feeds(("input_ids",))
    assert feeds["input_ids"].shape == (8, 64) and feeds["input_ids"].max() < 6


@given(st.dictionaries(st.integers(0, 40), st.floats(0, 9), min_size=1), st.integers(0, 40), st.integers(0, 40))
def test_costs_never_fall_as_levels_rise(costs: dict[int, float], a: int, b: int) -> None:
    made = LatencyTable("ort", WORK, 1.0, 0.0, heads=costs)
    low, high = sorted((a, b))
    assert made.attention(low) <= made.attention(high)


def test_time_that_others_had_the_core_does_not_count() -> None:
    """A run that is kept waiting takes no longer than one that is not."""

    class Waiting:
        input_names = ("input_ids",)

        def __init__(self, seconds: float):
            self.seconds = seconds

        def run(self, feeds) -> dict[str, np.ndarray]:
            time.sleep(self.seconds)
            return {}

    quick, kept_waiting = paired_times([Waiting(0.0), Waiting(0.02)], WORK, rounds=5)  # type: ignore[list-item]
    assert quick < 10 and kept_waiting < 10


def test_workload_follows_the_text() -> None:
    made = Workload.of(np.arange(1, 101))
    assert made.shapes == ((1, 13), (1, 38), (1, 63), (1, 88))
    feeds = made.feeds(["input_ids", "attention_mask"])
    assert feeds[0]["input_ids"].shape == (1, 13) and feeds[0]["attention_mask"].all()


def test_matrices_of_a_part(model) -> None:
    anatomy = read_anatomy(model)
    assert [r for _, r, _ in part_matrices(anatomy, 0, attention=True)] == [64] * 4
    sizes = [(r, c) for _, r, c in part_matrices(anatomy, 0, attention=False)]
    assert sizes == [(64, 256), (256, 64)] and break_even(64, 256) == 51


@pytest.mark.parametrize("cache", ["a file is there", "no home"])
def test_a_cache_that_cannot_be_written_does_not_lose_what_was_measured(
    cache: str, model, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(latency, "paired_times", lambda *_, **__: [1.0, 0.5])
    if cache == "no home":

        def no_home() -> Path:
            raise RuntimeError("Could not determine home directory.")

        monkeypatch.delenv("XDG_CACHE_HOME", raising=False)
        monkeypatch.setattr(latency.Path, "home", no_home)
        assert measure_table(model, WORK, ort.SPEC).full == 1.0
        return
    (tmp_path / "cache").write_text("in the way")
    with pytest.warns(HeadwayWarning, match=r"cannot be kept .*: set XDG_CACHE_HOME"):
        assert measure_table(model, WORK, ort.SPEC, cache=tmp_path / "cache").full == 1.0
