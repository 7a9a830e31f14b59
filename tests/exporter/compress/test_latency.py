"""The latency table and how time is taken: costs never fall as levels rise, nor below zero."""

import json
from pathlib import Path

import numpy as np
import pytest

from headway.errors import HeadwayWarning
from headway.exporter.compress import latency, stopwatch
from headway.exporter.compress.evidence import Evidence
from headway.exporter.compress.latency import measure_table, part_matrices
from headway.exporter.compress.search import choose, find_parts
from headway.exporter.compress.stopwatch import Timing, Workload
from headway.exporter.graph.anatomy import read_anatomy
from headway.exporter.graph.ranks import break_even
from headway.exporter.targets.ort import target as ort

from tests.support.evidence import WORK


def test_noise_makes_no_cost_negative(
    model, evidence: Evidence, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """On a busy machine a cut model may look slower than the whole one."""
    rng = np.random.default_rng(0)

    def noise(*_: object) -> Timing:
        ratio = float(rng.uniform(0.2, 1.5))
        return Timing(1.0, ratio, ratio - 0.02, ratio + 0.02)

    monkeypatch.setattr(latency, "time_beside", noise)
    found = measure_table(model, WORK, ort.SPEC, cache=tmp_path)
    tables = (found.heads, found.neurons, found.attention_rank, found.neuron_rank)
    assert min(cost for costs in tables for cost in costs.values()) == 0
    assert found.rest <= found.full
    parts = find_parts(model, read_anatomy(model), evidence, found, ort.SPEC)
    choose(parts, read_anatomy(model), 0.5 * sum(max(o.cost for o in p.options) for p in parts))


def test_latency_table_is_measured_once_and_read_again(model, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(stopwatch, "IDLE_SECONDS", 0.0)
    monkeypatch.setattr(latency, "_TOO_NOISY", 10.0)  # however busy the machine is
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


def test_matrices_of_a_part(model) -> None:
    anatomy = read_anatomy(model)
    assert [r for _, r, _ in part_matrices(anatomy, 0, attention=True)] == [64] * 4
    sizes = [(r, c) for _, r, c in part_matrices(anatomy, 0, attention=False)]
    assert sizes == [(64, 256), (256, 64)] and break_even(64, 256) == 51


@pytest.mark.parametrize("cache", ["a file is there", "no home"])
def test_a_cache_that_cannot_be_written_does_not_lose_what_was_measured(
    cache: str, model, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(latency, "time_beside", lambda *_: Timing(1.0, 0.5, 0.495, 0.505))
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


def test_a_table_of_a_busy_machine_is_not_kept(model, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(latency, "time_beside", lambda *_: Timing(1.0, 0.5, 0.3, 0.7))
    with pytest.warns(HeadwayWarning, match=r"busy: latencies were measured to ±20%.* is not kept"):
        table = measure_table(model, WORK, ort.SPEC, cache=tmp_path)
    assert table.noise == pytest.approx(0.2) and not list(tmp_path.iterdir())


def test_an_old_table_is_named(model, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, recwarn) -> None:
    monkeypatch.setattr(latency, "time_beside", lambda *_: Timing(1.0, 0.5, 0.495, 0.505))
    measure_table(model, WORK, ort.SPEC, cache=tmp_path)
    assert measure_table(model, WORK, ort.SPEC, cache=tmp_path).measured_at and not recwarn.list
    (path,) = tmp_path.iterdir()
    raw = json.loads(path.read_text()) | {"measured_at": "2020-02-03T04:05:06+00:00"}
    path.write_text(json.dumps(raw))
    with pytest.warns(
        HeadwayWarning, match=r"latency table of 2020-02-03 is used, \d+ days old: headway profile --refresh"
    ):
        measure_table(model, WORK, ort.SPEC, cache=tmp_path)
    measure_table(model, WORK, ort.SPEC, cache=tmp_path, refresh=True)
    assert json.loads(path.read_text())["measured_at"] > "2020-02-04"
