"""The steps that change weights alone: repair, recover, quantize."""

import time
from collections.abc import Callable
from types import SimpleNamespace
from typing import Any

import numpy as np
import pytest

from headway.errors import GateError, UsageError
from headway.exporter.compress import recover as recovery
from headway.exporter.compress import weight_steps
from headway.exporter.compress.job import Job, as_function
from headway.exporter.compress.structure_steps import remove_neurons
from headway.exporter.compress.weight_steps import quantize_weights, recover_quality, repair_weights
from headway.exporter.graph.anatomy import read_anatomy
from headway.exporter.graph.quantized import is_quantized
from headway.exporter.recipe.pass_specs import QuantizeSpec, RecoverSpec, RemoveNeuronsSpec, RepairSpec
from headway.exporter.targets.ort.target import OrtTarget
from headway.exporter.targets.phones.ort_mobile import OrtMobileTarget

from tests.support.lstms import lstm
from tests.support.one_node import model_of


def off(job: Job) -> float:
    """Return how far the model is from its source on calibration data."""
    pairs = [(as_function(job.source_model)(b.feeds), as_function(job.outcome.model)(b.feeds)) for b in job.batches]
    return float(np.sqrt(np.mean([np.square(a["logits"] - b["logits"]).mean() for a, b in pairs])))


def test_repair_brings_the_answers_nearer_and_recovery_lowers_its_loss(
    begin: Callable[..., Job], monkeypatch: pytest.MonkeyPatch
) -> None:
    # Minutes of the processor: on a busy machine those of the clock would hold fewer steps.
    monkeypatch.setattr(recovery, "time", SimpleNamespace(monotonic=time.process_time))
    job = begin([])
    remove_neurons(job, RemoveNeuronsSpec(keep={0: 32, 1: 32, 2: 32}))
    cut = off(job)
    changes = repair_weights(job, RepairSpec())
    repaired = off(job)
    assert repaired < cut and changes["sites"].startswith("6, squared error ÷ ")
    job = begin([])
    remove_neurons(job, RemoveNeuronsSpec(keep={0: 32, 1: 32, 2: 32}))
    changes = recover_quality(job, RecoverSpec(minutes=0.05))
    assert job.outcome.recovery is not None and changes["texts"].startswith(f"{job.outcome.recovery.texts} in ")
    losses = [loss for _, loss in job.outcome.recovery.losses]
    assert np.mean(losses[-5:]) < np.mean(losses[:5]) and not list(job.given.out.parent.glob(".bundle.*"))


@pytest.mark.parametrize(
    ("gains", "says"),
    [
        ({}, "0, squared error ÷ 1.00"),
        ({"one": 1.0}, "1, squared error ÷ 1.00"),
        ({"one": 2.0, "other": 8.0}, "2, squared error ÷ 4.00"),
    ],
)
def test_the_gain_of_a_repair_is_the_geometric_mean_over_sites(
    gains: dict[str, float], says: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    job: Any = SimpleNamespace(outcome=SimpleNamespace(model=None))
    monkeypatch.setattr(weight_steps, "repaired", lambda *_: gains)
    assert repair_weights(job, RepairSpec()) == {"sites": says}


@pytest.mark.parametrize("better", [True, False])
def test_a_recovery_that_brings_nothing_nearer_is_undone(
    better: bool, begin: Callable[..., Job], monkeypatch: pytest.MonkeyPatch
) -> None:
    job = begin([{"kind": "recover", "minutes": 1, "epochs": 1}])
    assert job.given.choice is not None and not set(job.given.choice.texts) & set(
        job.given.quality.texts + job.given.texts
    )
    drops = iter([4.0, 3.0 if better else 4.5])
    monkeypatch.setattr(Job, "choice_drop", lambda *_: next(drops))
    before = job.outcome.model
    changes = recover_quality(job, RecoverSpec(minutes=1, epochs=1))
    moved = [
        n
        for n, v in job.outcome.model.graph.initializers.items()
        if v.const_value is not before.graph.initializers[n].const_value
    ]
    assert ("undone" in changes) != better and (job.outcome.model is before) == better
    assert better or (moved and changes["undone"] == "4.50 points lost on the texts to choose by, 4.00 without it")


def test_an_interrupted_recovery_keeps_its_progress(begin: Callable[..., Job], monkeypatch: pytest.MonkeyPatch) -> None:
    told: list[str] = []

    def step(name: str, **_: object) -> None:
        told.append(name)
        if name.startswith("recover, loss"):
            raise KeyboardInterrupt

    job = begin([], step=step)
    with pytest.raises(KeyboardInterrupt):
        recover_quality(job, RecoverSpec(minutes=1))
    assert told[-1] == "interrupted: run the same command again to go on"
    left = {p.name for p in job.given.out.parent.glob(".bundle.*")}
    assert left == {".bundle.recover.safetensors"}


def test_quantization_says_what_it_did(begin: Callable[..., Job]) -> None:
    job = begin([], kernels="stock")
    changes = quantize_weights(job, QuantizeSpec(keep=["bert.encoder.layer.1"]))
    assert changes == {"matrices": "12 int8", "tables": "0 int8", "values": "static", "left in float": "9"}
    assert is_quantized(job.outcome.model) and job.learned.observations is not None
    assert job.outcome.left_float["bert.encoder.layer.1.output.dense.weight"] == "kept in float by the recipe"
    assert [r.name for r in job.outcome.reports] == ["MigrateScales", "QuantizeWeights", "QuantizeActivations"]


SEARCH = {"kind": "quantize", "search": True}


def test_a_search_is_decided_by_texts_that_do_not_judge(
    begin: Callable[..., Job], monkeypatch: pytest.MonkeyPatch
) -> None:
    job = begin([SEARCH], kernels="stock", max_drop=1.0)
    parts = job.given.learned_from, job.given.choice.texts, job.given.quality.texts
    assert not set(parts[0]) & set(parts[1]) and not set(parts[1]) & set(parts[2]) and not set(parts[0]) & set(parts[2])
    asked: list[object] = []

    def judge(quality: object, *_: object) -> SimpleNamespace:
        asked.append(quality)
        return SimpleNamespace(lost=100.0 if len(asked) == 1 else 0.0, points=0.0)

    monkeypatch.setattr(type(job.given.quality), "judge", judge)
    changes = quantize_weights(job, QuantizeSpec(search=True))
    made = QuantizeSpec(search=True, **job.outcome.decided)
    assert made.left and set(made.left) <= job.outcome.left_float.keys()
    assert len(asked) > 1 and all(quality is job.given.choice for quality in asked)
    again = begin([SEARCH], kernels="stock", max_drop=1.0)
    assert quantize_weights(again, made) == changes and again.outcome.left_float == job.outcome.left_float
    assert changes["matrices"] < "12 int8" or "left in float" in changes


def test_quantization_that_cannot_be_is_refused(begin: Callable[..., Job], monkeypatch: pytest.MonkeyPatch) -> None:
    job = begin([SEARCH], kernels="stock", max_drop=1.0)
    with pytest.raises(UsageError, match="no weights of the blocks are left to quantize"):
        quantize_weights(job, QuantizeSpec(keep=["bert.encoder"]))
    monkeypatch.setattr(Job, "choice_drop", lambda *_: 1000.0)
    before = job.outcome.model
    with pytest.raises(GateError, match="even one quantized group of weights costs more than 1 points of accuracy"):
        quantize_weights(job, QuantizeSpec(search=True))
    assert job.outcome.model is before and len(job.learned.sensitivity or {}) == 12


@pytest.mark.parametrize("target", [OrtTarget(), OrtMobileTarget()])
def test_lstms_become_int8_without_text_where_the_target_folds_them(target: Any) -> None:
    model = model_of(lstm())
    job: Any = SimpleNamespace(
        outcome=SimpleNamespace(model=model, reports=[], left_float={}),
        anatomy=read_anatomy(model),
        given=SimpleNamespace(
            target=target, recipe=SimpleNamespace(calibration=SimpleNamespace(shards=None), kernels="stock")
        ),
    )
    if isinstance(target, OrtMobileTarget):
        with pytest.raises(UsageError, match=r"left to quantize \(c0: the target would dequantize .* in every run\)"):
            quantize_weights(job, QuantizeSpec())
        return
    assert quantize_weights(job, QuantizeSpec()) == {"tables": "0 int8", "LSTMs": "2 weights int8"}
    assert is_quantized(job.outcome.model) and not is_quantized(model) and job.outcome.left_float == {}
    assert [r.name for r in job.outcome.reports] == ["QuantizeRecurrent"]
