"""The reference of a module that rounds in more places than a graph does."""

from types import SimpleNamespace
from typing import Any

import numpy as np
import pytest
import torch
from torch.ao.quantization import FakeQuantize, MovingAverageMinMaxObserver

from headway.errors import SourceError
from headway.exporter.capture.rounded_reference import RoundedReference
from headway.exporter.capture.torch_reference import TorchReference
from headway.exporter.capture.trained_rounding import TrainedRounding

FEEDS = {"input_ids": np.arange(6, dtype=np.int64).reshape(2, 3)}


class Model(torch.nn.Module):
    """Embeddings, rounded to four numbers."""

    def __init__(self) -> None:
        super().__init__()
        self.embedding = torch.nn.Embedding(6, 4)
        self.rounding = FakeQuantize(MovingAverageMinMaxObserver, 0, 3, dtype=torch.quint8)

    def forward(self, ids: torch.Tensor) -> torch.Tensor:
        return self.rounding(self.embedding(ids))


class Wrapped(torch.nn.Module):
    names, outputs = ("input_ids",), ("last_hidden_state",)

    def __init__(self) -> None:
        super().__init__()
        self.model = Model()

    def forward(self, ids: torch.Tensor) -> tuple[torch.Tensor]:
        return (self.model(ids),)


@pytest.fixture
def reference(monkeypatch: pytest.MonkeyPatch) -> RoundedReference:
    torch.manual_seed(0)
    module: Any = Wrapped()
    with torch.no_grad():
        module(torch.arange(6)[None])
    module.model.rounding.disable_observer()
    module.model.rounding.disable_fake_quant()
    monkeypatch.setattr("headway.exporter.capture.torch_reference.SourceTokens", lambda source: None)
    source: Any = SimpleNamespace(spec="made:here")
    left = {"rounding": (module.model.rounding, "to a range")}
    return RoundedReference(module, source, TrainedRounding(left=left))


def test_answers_are_those_without_what_is_left_out_and_its_distance_is_said(reference: RoundedReference) -> None:
    assert reference.judge == "torch, Model, on the module without the rounding of activations in 1 place"
    embedding = reference.module.model.embedding.weight.detach().numpy()
    answers = reference.run(FEEDS)["last_hidden_state"]
    assert np.array_equal(answers, embedding[FEEDS["input_ids"]])
    assert "; the module itself differs from that by up to 0." in reference.judge
    assert not bool(reference.module.model.rounding.fake_quant_enabled[0])


def test_inner_values_and_float64_are_those_without_it_too(reference: RoundedReference) -> None:
    inner = reference.inside(FEEDS, ["rounding", "rounding#1"])
    assert list(inner) == ["rounding"]
    exact = reference.exactly(FEEDS)["last_hidden_state"]
    assert exact.dtype == np.float64 and np.array_equal(exact, inner["rounding"])
    assert reference.distance is not None and reference.distance.rows == 0


def test_a_module_that_is_another_model_with_its_rounding_is_refused(reference: RoundedReference) -> None:
    reference.module.model.rounding.scale.fill_(1e-9)
    reference.module.model.rounding.zero_point.fill_(0)
    with pytest.raises(SourceError, match=r"made:here: its own outputs have a cosine of .* in 1 place: it is damaged"):
        for row in range(6):
            reference.run({"input_ids": np.array([[row]])})


def test_without_anything_left_out_it_is_the_module(reference: RoundedReference) -> None:
    plain = RoundedReference(reference.module, reference.source, TrainedRounding())
    assert plain.judge == TorchReference.judge.fget(plain) == "torch, Model"  # type: ignore[attr-defined]


def test_in_float64_weights_are_not_rounded_again(reference: RoundedReference) -> None:
    module = reference.module.model.rounding
    module.enable_fake_quant()
    held = RoundedReference(reference.module, reference.source, TrainedRounding(weights=["rounding"]))
    rounded, exact = held.run(FEEDS)["last_hidden_state"], held.exactly(FEEDS)["last_hidden_state"]
    assert not bool(module.fake_quant_enabled[0]) and exact.dtype == np.float64
    assert np.array_equal(
        np.float32(exact), reference.module.model.embedding.weight[FEEDS["input_ids"]].float().detach()
    )
    assert not np.array_equal(rounded, exact)
