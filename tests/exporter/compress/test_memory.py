"""What a job learns is recalled equal to what it would be, by another job as well, and never for another model or text."""

from collections.abc import Callable
from dataclasses import replace

import numpy as np
import pytest

from headway.exporter.compress import memory
from headway.exporter.compress.job import Job
from headway.exporter.compress.memory import learn, recovered, remember, repaired
from headway.exporter.compress.recover import Recovery
from headway.exporter.graph.anatomy import read_anatomy
from headway.exporter.graph.edit import constant
from headway.exporter.passes.cuts import set_array
from headway.exporter.passes.neurons import RemoveNeurons
from headway.exporter.targets.ort.target import OrtTarget


def forbid(name: str, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(memory, name, lambda *_, **__: pytest.fail(f"{name} was called again"))


def cut(job: Job):
    model = job.outcome.model.clone()
    RemoveNeurons({(0, 0): range(64)})(model)
    return model


def weights(model) -> dict[str, np.ndarray]:
    return {n: a for n, v in model.graph.initializers.items() if (a := constant(v)) is not None}


def test_evidence_is_collected_once(begin: Callable[..., Job], monkeypatch: pytest.MonkeyPatch) -> None:
    first, again = begin([]), begin([])
    made = learn(first, first.outcome.model)
    other = learn(first, cut(first))
    with monkeypatch.context() as patch:
        forbid("collect", patch)
        found = learn(again, again.outcome.model)
    assert found.describe() == made.describe() == again.learned.evidence
    for part in ("inputs", "mean", "outputs"):
        a, b = getattr(made, part), getattr(found, part)
        assert a.keys() == b.keys() and all(np.array_equal(a[n], b[n]) and a[n].dtype == b[n].dtype for n in a)
    assert other.inputs.keys() == made.inputs.keys()
    assert sorted(map(len, other.inputs.values())) != sorted(map(len, made.inputs.values()))
    unlike = begin([], calibration={"seed": 1})
    with monkeypatch.context() as patch, pytest.raises(pytest.fail.Exception):
        forbid("collect", patch)
        learn(unlike, unlike.outcome.model)


def test_a_repair_is_made_once(begin: Callable[..., Job], monkeypatch: pytest.MonkeyPatch) -> None:
    told: list[tuple[str, int | None]] = []
    first, again = begin([], step=lambda name, of=None, **_: told.append((name, of))), begin([])
    model, same, untouched = cut(first), cut(again), weights(cut(first))
    gains = repaired(first, model)
    assert told == [(f"repair, {site}", 0) for site in gains]  # 0: how many come is not known
    forbid("repair", monkeypatch)
    assert repaired(again, same) == gains and gains
    one, other = weights(model), weights(same)
    assert all(np.array_equal(one[n], other[n]) for n in one)
    assert any(not np.array_equal(one[n], untouched[n]) for n in one)


def test_a_training_is_made_once(begin: Callable[..., Job]) -> None:
    first, again = begin([]), begin([])
    name = next(n for n, a in weights(first.outcome.model).items() if a.ndim == 2)

    def train(model) -> Recovery:
        set_array(model.graph.initializers[name], constant(model.graph.initializers[name]) + 1)
        return Recovery([(0.5, 2.0), (1.0, 1.5)], 12, 1.25)

    done = recovered(first, first.outcome.model, 1.0, train)
    found = recovered(again, again.outcome.model, 1.0, lambda _: pytest.fail("trained again"))
    assert found == done and np.array_equal(weights(again.outcome.model)[name], weights(first.outcome.model)[name])
    with pytest.raises(pytest.fail.Exception):
        recovered(again, begin([]).outcome.model, 2.0, lambda _: pytest.fail("trained for another time"))


def test_orders_and_latencies_are_kept_by_model(begin: Callable[..., Job], monkeypatch: pytest.MonkeyPatch) -> None:
    job = begin([])
    made = remember(job, job.outcome.model)("order a", lambda: {"order": np.arange(3)})
    found = remember(begin([]), job.outcome.model)("order a", lambda: pytest.fail("computed again"))
    assert np.array_equal(made["order"], found["order"])
    assert not np.array_equal(
        remember(job, cut(job))("order a", lambda: {"order": np.zeros(3)})["order"], made["order"]
    )
    timing = job.timed(job.outcome.model)
    monkeypatch.setattr(type(job.given.stopwatch), "time", lambda *_: pytest.fail("timed again"))
    assert job.timed(job.outcome.model) == timing and read_anatomy(job.outcome.model)
    with pytest.raises(pytest.fail.Exception):
        job.timed(cut(job))
    custom = job.given.stopwatch.for_target(OrtTarget(kernels="custom"))
    with pytest.raises(pytest.fail.Exception):
        replace(job, given=replace(job.given, stopwatch=custom)).timed(job.outcome.model)
