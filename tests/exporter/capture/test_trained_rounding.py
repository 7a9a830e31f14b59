"""Which fake quantization of a module's own is followed, which is switched off, and which is refused."""

from typing import Any

import pytest
import torch
from torch.ao.quantization import FakeQuantize, MovingAverageMinMaxObserver, PerChannelMinMaxObserver, disable_observer
from torch.nn import functional
from torch.nn.utils import prune

from headway.errors import SourceError
from headway.exporter.capture.trained_rounding import TrainedRounding, fit_rounding

X = torch.linspace(-1, 3, 24).reshape(2, 3, 4)


def rounder(least: int = 0, greatest: int = 255, dtype: Any = torch.quint8, **options: Any) -> FakeQuantize:
    return FakeQuantize(
        observer=MovingAverageMinMaxObserver, quant_min=least, quant_max=greatest, dtype=dtype, **options
    )


def symmetric(least: int = -128, greatest: int = 127, dtype: Any = torch.qint8) -> FakeQuantize:
    return rounder(least, greatest, dtype, qscheme=torch.per_tensor_symmetric)


class Rounding(torch.nn.Module):
    """A linear layer that rounds its weight, and its inputs."""

    def __init__(self, weights: Any, inputs: Any):
        super().__init__()
        torch.manual_seed(0)
        self.linear = torch.nn.Linear(4, 4)
        self.weights, self.inputs = weights, inputs

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        return functional.linear(self.inputs(x), self.weights(self.linear.weight), self.linear.bias)


def fitted(module: Any) -> tuple[TrainedRounding, torch.Tensor, torch.Tensor]:
    """Return what is done with a module, and its results before and after."""
    with torch.no_grad():
        module(X)
        module.apply(disable_observer)
        before = module(X)
        rounding = fit_rounding(module, lambda: module(X))
        return rounding, before, module(X)


@pytest.mark.parametrize("weights", [symmetric(), symmetric(-127), symmetric(-8, 7)])
def test_what_a_graph_can_round_stays(weights: Any) -> None:
    module = Rounding(weights, rounder())
    rounding, before, after = fitted(module)
    assert torch.equal(before, after) and rounding.weights == ["weights"] and rounding.kept == ["inputs"]
    assert not rounding.left and not rounding.floats
    assert torch.equal(module.linear.weight, weights(module.linear.weight))
    assert rounding.sentence() == (
        "torch's fake quantization: 1 weight rounded to the integers of their own scales; activations are rounded in 1 place"
    )


@pytest.mark.parametrize(
    ("weights", "inputs", "reason"),
    [
        (symmetric(), rounder(0, 127), "to a range that is not all of int8 or uint8"),
        (symmetric(), rounder(0, 1023, torch.qint32), "to a range that is not all of int8 or uint8"),
        (symmetric(), rounder(-127, 127, torch.qint8), "to a range that is not all of int8 or uint8"),
        (
            symmetric(),
            FakeQuantize(PerChannelMinMaxObserver, 0, 255, dtype=torch.quint8, ch_axis=2),
            "by a scale for each channel",
        ),
        (rounder(), rounder(), "elsewhere than in front of matmuls of tokens by int8 weights"),
    ],
)
def test_activations_that_cannot_be_followed_are_left_float_and_said(weights: Any, inputs: Any, reason: str) -> None:
    module = Rounding(weights, inputs)
    rounding, before, after = fitted(module)
    assert not torch.equal(before, after) and rounding.kept == []
    assert torch.equal(after, functional.linear(X, module.linear.weight, module.linear.bias))
    assert rounding.left["inputs"] == (inputs, reason)
    assert rounding.sentence().endswith(
        f"; the roundings of activations in 1 place are left out, and these are computed in floats: 1 {reason} (first: inputs)"
    )


def test_weights_of_more_bits_are_held_as_the_numbers_that_they_are_rounded_to() -> None:
    rounding, before, after = fitted(Rounding(symmetric(-2048, 2047, torch.qint32), rounder(0, 127)))
    assert rounding.floats == ["weights"] and not rounding.weights
    assert "0 weights rounded to the integers of their own scales, 1 held as floats" in rounding.sentence()
    assert not torch.equal(before, after)


def test_a_weight_that_is_computed_is_refused() -> None:
    module = Rounding(symmetric(), rounder())
    prune.l1_unstructured(module.linear, "weight", 0.5)

    def masked(x: torch.Tensor) -> torch.Tensor:
        weight = module.linear.weight_orig * module.linear.weight_mask
        return functional.linear(module.inputs(x), module.weights(weight))

    module.forward = masked  # type: ignore[method-assign]
    with pytest.raises(SourceError, match=r"^weights: this FakeQuantize rounds a weight that is computed anew"):
        fitted(module)


def test_one_scale_for_a_weight_and_activations_is_refused() -> None:
    one = symmetric()
    with pytest.raises(SourceError, match=r"rounds a weight and activations by one scale"):
        fitted(Rounding(one, one))


@pytest.mark.parametrize(("least", "refused"), [(-128, False), (-3, True)])
def test_a_weight_that_is_read_in_floats_too_is_rounded_where_it_is_read(least: int, refused: bool) -> None:
    class Tied(Rounding):
        def forward(self, x: torch.Tensor) -> torch.Tensor:
            return super().forward(x) + functional.linear(x, self.linear.weight)

    # A weight is nearly symmetric: narrower on one side alone, its own clamp is not that of int8.
    weights = FakeQuantize(
        MovingAverageMinMaxObserver, -128, 127, dtype=torch.qint8, qscheme=torch.per_tensor_symmetric
    )
    module = Tied(weights, rounder())
    with torch.no_grad():
        module(X)
    weights.activation_post_process.quant_min = least
    if refused:
        with pytest.raises(SourceError, match="something else reads as it is, to other numbers than int8 or uint8 do"):
            fitted(module)
        return
    raw = module.linear.weight.clone()
    rounding, before, after = fitted(module)
    assert rounding.weights == ["weights"] and torch.equal(module.linear.weight, raw)
    assert torch.equal(before, after)
