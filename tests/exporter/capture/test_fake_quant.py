"""FakeQuantize while a model is traced."""

import onnx_ir as ir
import pytest
import torch
from torch.ao.quantization import FakeQuantize, MovingAverageMinMaxObserver

from headway.errors import SourceError
from headway.exporter.capture.fake_quant import check_learned, frozen, has_rounding, hold_scales


def model() -> torch.nn.Sequential:
    rounding = FakeQuantize(observer=MovingAverageMinMaxObserver, quant_min=0, quant_max=255, dtype=torch.quint8)
    return torch.nn.Sequential(torch.nn.Identity(), rounding)


def test_a_scale_that_was_never_learned_is_refused() -> None:
    module = model()
    with pytest.raises(SourceError, match="1: this FakeQuantize has no scale yet"):
        check_learned(module)
    module(torch.linspace(-1, 2, 100))
    check_learned(module)


def test_one_that_does_not_round_needs_no_scale() -> None:
    module = model()
    module[1].disable_fake_quant()
    check_learned(module)
    with frozen(module):
        assert isinstance(module[1], torch.nn.Identity)


def test_inside_it_only_rounds_and_afterwards_it_is_back() -> None:
    module = model()
    module(torch.linspace(-1, 2, 100))
    learned = module[1]
    with frozen(module):
        stand_in = module[1]
        assert stand_in is not learned and stand_in.zero_point.dtype == torch.uint8
        assert torch.equal(stand_in.scale, learned.scale[0])
        exported = torch.onnx.export(
            module, (torch.zeros(3),), dynamo=True, opset_version=23, optimize=False, verbose=False
        )
    assert module[1] is learned
    assert exported is not None
    types = {n.op_type: n.outputs[0].dtype for n in exported.model.graph}
    assert types["QuantizeLinear"] == ir.DataType.UINT8 and types["DequantizeLinear"] == ir.DataType.FLOAT


def test_scales_stay_as_they_came() -> None:
    module = model()
    module(torch.linspace(-1, 2, 100))
    hold_scales(module)
    before = module[1].scale.clone()
    module(torch.linspace(-9, 9, 100))
    assert torch.equal(module[1].scale, before) and has_rounding(module)
    module[1].disable_fake_quant()
    assert not has_rounding(module)
