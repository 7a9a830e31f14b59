"""Noise: what a loop and a call lost, and the facts of the machine."""

import numpy as np
import pytest

from headway.exporter.validate import noise
from headway.exporter.validate.noise import Noise, lost, machine_facts, machine_kind, noise_of, spin


def test_a_spin_counts_only_the_pauses(monkeypatch: pytest.MonkeyPatch) -> None:
    steps = iter([0, *range(100, 1_000_000, 100), 6_000_000, *range(6_000_100, 30_000_000, 100)])
    monkeypatch.setattr(noise.time, "perf_counter_ns", lambda: next(steps))
    taken, longest, seconds = spin(0.02)
    assert taken == pytest.approx(0.005, abs=1e-6) and longest == pytest.approx(5, abs=1e-3)
    assert seconds == pytest.approx(0.02, abs=1e-6)


def test_the_share_is_that_of_all_spins() -> None:
    assert noise_of([(0.01, 3.0, 0.02), (0.0, 0.0, 0.06)]) == Noise(0.125, 3.0, 2)
    assert not noise_of([(0.01, 3.0, 0.02)]).quiet and noise_of([]).quiet
    assert noise_of([(0.0, 0.0, 0.1)]).to_json()["quiet"] is True


def test_what_calls_lost_is_the_wall_clock_less_their_own() -> None:
    assert lost(np.array([10.0, 10.0]), np.array([5.0, 10.0])) == 0.25
    assert lost(np.array([1.0]), np.array([1.1])) == 0 and lost(np.array([]), np.array([])) == 0


def test_machines_are_told_apart_by_processor_and_system_not_by_load() -> None:
    facts = machine_facts(2)
    assert facts["threads"] == 2 and facts["allowed_cores"] >= 1
    assert machine_kind(facts) == machine_kind(facts | {"load": [9.0], "threads": 1})
    assert machine_kind(facts) != machine_kind(facts | {"cpu": "another"})


def test_energy_is_none_where_it_is_not_reported(monkeypatch: pytest.MonkeyPatch, tmp_path: object) -> None:
    monkeypatch.setattr(noise, "_ENERGY", noise.Path(str(tmp_path)) / "none")
    assert noise.energy_joules() is None
