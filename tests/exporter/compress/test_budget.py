"""What was asked is what comes out: the artifact after all passes, at both ends."""

import warnings
from collections.abc import Callable
from dataclasses import replace

import pytest

from headway.errors import GateError, HeadwayWarning
from headway.exporter.compress.budget import as_deployed, at_other_lengths, check_budget, goal_ms
from headway.exporter.compress.job import Job
from headway.exporter.compress.stopwatch import Timing
from headway.exporter.graph.quantized import is_quantized
from headway.exporter.recipe.pass_specs import FitSpec


def after(job: Job, ratio: float) -> Job:
    """Return the job as if its last pass had left a model of this latency ratio, of a source that takes 10 ms."""
    if not any(p.kind == "fit" and p.asked.get("latency_ms") for p in job.given.recipe.passes):
        job.given.stopwatch.source_ms = 10.0
    timing = Timing(1.0, ratio, ratio * 0.99, ratio * 1.01)
    job.given.stopwatch.time = lambda _: (timing, 1)  # type: ignore[method-assign]
    job.outcome.stages.append(replace(job.outcome.stages[-1], timing=timing))
    job.outcome.passes = list(job.given.recipe.passes)
    return job


@pytest.mark.parametrize(
    ("ratio", "verdict"), [(0.51, "refused"), (0.504, "right"), (0.499, "right"), (0.486, "right"), (0.4, "warned")]
)
def test_speed_is_held_to_at_both_ends(ratio: float, verdict: str, begin: Callable[..., Job]) -> None:
    job = after(begin([{"kind": "fit", "speedup": 2.0}]), ratio)
    if verdict == "refused":
        with pytest.raises(
            GateError, match=r"2 times as fast was asked for, 1.96 \(1.94 to 1.98\) was measured on .* 2.0% more"
        ):
            check_budget(job)
    elif verdict == "warned":
        with pytest.warns(HeadwayWarning, match=r"20.0% less than was asked"):
            check_budget(job)
    else:
        with warnings.catch_warnings():
            warnings.simplefilter("error")
            check_budget(job)


def test_one_unlucky_session_refuses_nothing(begin: Callable[..., Job]) -> None:
    """Sessions of one model differ by where its weights lie: the median of three is held against the budget."""
    job = after(begin([{"kind": "fit", "speedup": 2.0}]), 0.51)
    timings = iter([Timing(1.0, ratio, ratio, ratio) for ratio in (0.495, 0.492)])
    job.given.stopwatch.time = lambda _: (next(timings), 1)  # type: ignore[method-assign]
    check_budget(job)
    assert job.outcome.stages[-1].timing.ratio == 0.495 and job.outcome.stages[-1].ms == pytest.approx(4.95)
    job = after(job, 0.51)
    timings = iter([Timing(1.0, ratio, ratio, ratio) for ratio in (0.495, 0.52)])
    with pytest.raises(GateError, match=r"2 times as fast was asked for, 1\.96"):
        check_budget(job)


def test_a_latency_in_milliseconds_is_held_to(begin: Callable[..., Job]) -> None:
    job = begin([{"kind": "fit", "latency_ms": 10.0}])
    job.given.stopwatch.source_ms = 20.0
    assert goal_ms(job, FitSpec(latency_ms=10.0)) == 10.0 == goal_ms(job, FitSpec(speedup=2.0))
    check_budget(after(job, 0.495))
    with pytest.raises(GateError, match=r"10 ms were asked for, 12.00 measured"):
        check_budget(after(job, 0.6))


def test_operations_are_counted(begin: Callable[..., Job]) -> None:
    job = after(begin([{"kind": "fit", "flops": 0.5}]), 1.0)
    with pytest.raises(GateError, match=r"0.5 of the operations were asked for, 1.000 are left"):
        check_budget(job)


def test_a_plan_is_made_the_same_on_a_slower_machine(begin: Callable[..., Job]) -> None:
    job = after(begin([{"kind": "fit", "speedup": 2.0, "plan": [{}]}]), 0.6)
    with pytest.warns(
        HeadwayWarning, match=r"20.0% more than was asked; the plan of the recipe was made on another machine"
    ):
        check_budget(job)


@pytest.mark.parametrize(
    "later", [{"kind": "quantize"}, {"kind": "quantize", "activations": "static"}, {"kind": "float16"}]
)
def test_a_model_is_timed_as_later_passes_store_it(later: dict, begin: Callable[..., Job]) -> None:
    job = begin([{"kind": "fit", "speedup": 2.0}, later])
    model = job.outcome.model
    stored = as_deployed(job, model, job.given.recipe.passes[0])
    assert is_quantized(stored) == (later["kind"] == "quantize") and not is_quantized(model) and stored is not model
    timing, nbytes = job.given.stopwatch.time(stored)
    assert timing.ratio > 0 and nbytes < 0.8 * job.outcome.stages[0].nbytes
    alone = begin([{"kind": "fit", "speedup": 2.0}])
    assert as_deployed(alone, alone.outcome.model, alone.given.recipe.passes[0]) is alone.outcome.model


def test_other_lengths_stop_at_the_model_s(begin: Callable[..., Job], monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("headway.exporter.compress.stopwatch._MOST_ROUNDS", 3)
    rows = at_other_lengths(job := begin([]))
    longest = job.encoder.info.max_length
    assert rows and all(
        r["shape"][1] <= longest and r["interval"][0] <= r["latency_ratio"] <= r["interval"][1] for r in rows
    )
