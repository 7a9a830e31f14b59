"""The range of integers is the one that torch's own fake quantization has, for each way in which it computes scales."""

from functools import partial
from typing import Any

import pytest
import torch
import torch.ao.quantization as quantization

from headway.exporter.source.checkpoints.observed_ranges import integer_range

TENSOR, ROWS = quantization.MovingAverageMinMaxObserver, quantization.MovingAveragePerChannelMinMaxObserver
PLAIN, FUSED = quantization.FakeQuantize, quantization.FusedMovingAvgObsFakeQuantize
SIGNED = {"dtype": torch.qint8}
UNSIGNED = {"dtype": torch.quint8, "quant_min": 0, "quant_max": 255}

WAYS: dict[str, Any] = {
    "per channel": quantization.default_per_channel_weight_fake_quant,
    "per tensor": quantization.default_weight_fake_quant,
    "fused per channel": quantization.default_fused_per_channel_wt_fake_quant,
    "fused per tensor": quantization.default_fused_wt_fake_quant,
    "narrow fused per channel": quantization.fused_per_channel_wt_fake_quant_range_neg_127_to_127,
    "narrow fused per tensor": quantization.fused_wt_fake_quant_range_neg_127_to_127,
    "embedding": quantization.default_embedding_fake_quant,
    "embedding of 4 bits": quantization.default_embedding_fake_quant_4bit,
    "unsigned affine": partial(PLAIN, TENSOR, qscheme=torch.per_tensor_affine, **UNSIGNED),
    "fused unsigned affine": partial(FUSED, TENSOR, qscheme=torch.per_tensor_affine, **UNSIGNED),
    "unsigned symmetric": partial(PLAIN, TENSOR, qscheme=torch.per_tensor_symmetric, **UNSIGNED),
    "affine": partial(PLAIN, ROWS, -128, 127, qscheme=torch.per_channel_affine, **SIGNED),
    "four bits": partial(PLAIN, ROWS, -8, 7, qscheme=torch.per_channel_symmetric, **SIGNED),
    "narrow four bits": partial(FUSED, ROWS, -7, 7, qscheme=torch.per_channel_symmetric, **SIGNED),
}


def weights() -> torch.Tensor:
    """Return rows of both signs, of one sign, of zeros and of very small numbers."""
    rows = torch.randn(6, 16, generator=torch.Generator().manual_seed(0)) / 10
    rows[2], rows[3], rows[4] = rows[2].abs(), 0, -rows[4].abs()
    rows[5] *= 1e-3
    return rows


@pytest.mark.parametrize("way", WAYS)
def test_the_range_is_that_of_the_module(way: str) -> None:
    module = WAYS[way]()
    for times in (1, 1.5):  # averages of what two steps saw
        module(weights() * times)
    observer = module.activation_post_process
    found = integer_range(module.scale, module.zero_point, observer.min_val, observer.max_val)
    assert found == (observer.quant_min, observer.quant_max)


def test_scales_of_nothing_that_was_observed_have_no_range() -> None:
    low, high = torch.tensor([-1.0, -0.5]), torch.tensor([0.5, 1.0])
    scale, zero = 2 / torch.tensor([255.0, 255.0]), torch.zeros(2, dtype=torch.int32)
    assert integer_range(scale, zero, low, high) == (-128, 127)
    assert integer_range(scale * 1.001, zero, low, high) is None
    assert integer_range(scale, zero + 40, low, high) is None


def test_the_least_scales_say_nothing() -> None:
    zeros = torch.zeros(2)
    small = torch.full((2,), 6e-5)
    assert integer_range(small, zeros.int(), zeros - 1e-5, zeros + 1e-5) == (-128, 127)
    assert integer_range(small, zeros.int() + 128, zeros - 1e-5, zeros + 1e-5) == (0, 255)
    assert integer_range(small, zeros.int() + 256, zeros - 1e-5, zeros + 1e-5) is None


def test_small_scales_tell_no_range_and_nothing_may_be_cut_off() -> None:
    """The codes of what was observed decide: 128 to 255 are no int8."""

    def one(value: float) -> torch.Tensor:
        return torch.tensor([value])

    low, high, scale = one(-0.006), one(0.009), one(5.9e-5)
    assert integer_range(scale, torch.tensor([102]), low, high) == (0, 255)
    assert integer_range(scale, torch.tensor([0]), one(-0.007), one(0.007)) == (-128, 127)
    assert integer_range(scale, torch.tensor([0]), one(-0.007), one(0.009)) is None
