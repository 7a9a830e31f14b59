"""A compression under way."""

from collections.abc import Callable
from dataclasses import replace
from pathlib import Path

import numpy as np
import onnx_ir as ir
import pytest

from headway.errors import UsageError
from headway.exporter.compress.job import Job, as_function, summarize, write_plots
from headway.exporter.compress.memory import learn
from headway.exporter.compress.recover import Recovery
from headway.exporter.graph.anatomy import read_anatomy
from headway.exporter.passes.quantize import StoreHalf
from headway.exporter.targets.base import TargetSpec

from tests.support.rounded import answers, batches
from tests.support.variants import canonical


@pytest.fixture(scope="module")
def model(bert: Path) -> ir.Model:
    return canonical(bert)


def test_runs_helper_is_the_graph(model: ir.Model) -> None:
    batch = batches(1)[0]
    assert np.array_equal(as_function(model)(batch.feeds)["last_hidden_state"][batch.mask], answers(model, batch))


def test_a_job_begins_with_the_source_measured(begin: Callable[..., Job]) -> None:
    job = begin([])
    (source,) = job.outcome.stages
    assert source.name == "source" and source.ms > 0 and source.nbytes > 100_000 and source.paid is None
    assert source.quality == job.given.quality.files[0].source and job.given.stopwatch.source_ms > 0
    given = job.given
    assert not {*given.learned_from} & {*given.quality.texts} and given.texts == [
        t for t in given.texts if t not in given.quality.texts
    ]
    assert sum(len(b.rows) for b in job.batches) == len(given.learned_from)
    assert given.labels is not None and len(given.labels) == len(given.learned_from)
    assert job.outcome.model is not job.source_model


def test_a_workload_longer_than_the_model_is_refused(begin: Callable[..., Job]) -> None:
    with pytest.raises(UsageError, match="a batch of 999 tokens is longer than the model's"):
        begin([], work={"shapes": [[1, 999]]})
    assert begin([], work={"shapes": [[2, 9]], "threads": 2}).given.stopwatch.workload.shapes == ((2, 9),)


def test_what_was_learned_stands_in_the_summary(begin: Callable[..., Job], tmp_path: Path) -> None:
    job = begin([])
    evidence = learn(job, job.outcome.model)
    assert job.learned.evidence == evidence.describe() and evidence.labeled
    job.outcome.stages.append(job.measure("nothing", {"block 0": "left alone"}))
    job.learned.sensitivity = {"block 0": 0.5}
    job.outcome.recovery = Recovery([(0.1, 2.0), (0.2, 1.0)], 8, 0.2)
    summary = summarize(job)
    assert summary["evidence"] == evidence.describe() and summary["sensitivity"] == {"block 0": 0.5}
    assert summary["held_out"] == len(job.given.quality.texts) > 20 and summary["metric"] == "accuracy"
    assert summary["speedup"] == job.outcome.stages[0].ms / job.outcome.stages[1].ms
    assert [s["name"] for s in summary["stages"]] == ["source", "nothing"] and summary["expected_ms"] is None
    write_plots(job, tmp_path)
    assert {p.name for p in (tmp_path / "plots").iterdir()} == {"passes.png", "sensitivity.png", "recovery.png"}


def test_forms_of_int8_without_kernels_here_take_the_time_of_the_float_model(
    begin: Callable[..., Job], monkeypatch: pytest.MonkeyPatch
) -> None:
    job = begin([])

    class Elsewhere:
        spec = TargetSpec("elsewhere", 16, 16, quantizes_tokens=True)

    half = job.outcome.model.clone()
    StoreHalf()(half)
    there = replace(job, given=replace(job.given, target=Elsewhere()))  # type: ignore[arg-type]
    monkeypatch.setattr(type(job.given.stopwatch), "time", lambda *_: (123.0, 45))
    assert there.time(half) == (123.0, 45)
    monkeypatch.setattr("headway.exporter.compress.job.is_quantized", lambda _: True)
    assert there.time(half) == (job.outcome.stages[-1].timing, read_anatomy(half).nbytes)
    assert job.time(half) == (123.0, 45)
