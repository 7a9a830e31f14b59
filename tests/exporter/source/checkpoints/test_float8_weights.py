"""Weights in 8-bit floats and their scales. The forms that have them are tested by themselves."""

from pathlib import Path

import pytest
import torch

from headway.errors import SourceError
from headway.exporter.source.checkpoints.checkpoint import Checkpoint
from headway.exporter.source.checkpoints.float8_weights import dequantized
from headway.exporter.source.checkpoints.state import given

WEIGHT = torch.arange(12.0).reshape(3, 4).to(torch.float8_e4m3fn)


def checkpoint(scale: torch.Tensor) -> Checkpoint:
    return Checkpoint(Path("place"), {}, {"a.weight": given(WEIGHT), "a.scale": given(scale)})


def test_a_scale_of_a_block_holds_for_its_rows_and_columns() -> None:
    scale = torch.tensor([[1.0, 2.0], [3.0, 4.0]])
    read = dequantized(checkpoint(scale), "a.weight", "a.scale", (2, 3)).read()
    factors = torch.tensor([[1.0, 1, 1, 2], [1, 1, 1, 2], [3, 3, 3, 4]])
    assert torch.equal(read, WEIGHT.float() * factors)


def test_a_scale_per_output_and_one_for_all() -> None:
    for scale in (torch.tensor([1.0, 2.0, 3.0]), torch.tensor(0.5)):
        read = dequantized(checkpoint(scale), "a.weight", "a.scale").read()
        assert torch.equal(read, WEIGHT.float() * (scale[:, None] if scale.ndim else scale))


def test_scales_of_another_number_of_blocks_are_refused() -> None:
    with pytest.raises(SourceError, match=r"a\.scale is \[1, 2\], and by a\.weight \[2, 2\] is expected"):
        dequantized(checkpoint(torch.ones(1, 2)), "a.weight", "a.scale", (2, 3))
