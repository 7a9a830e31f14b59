"""Blocks of 4-bit codes. Refusals are tested with the form that has them."""

import json
from pathlib import Path

import pytest
import torch

from headway.errors import SourceError
from headway.exporter.source.checkpoints.bitsandbytes import blocks_of
from headway.exporter.source.checkpoints.checkpoint import Checkpoint
from headway.exporter.source.checkpoints.state import given


def test_blocks_do_not_end_with_rows_and_the_high_nibble_comes_first() -> None:
    values = torch.arange(16.0)
    note = json.dumps({"blocksize": 4, "shape": [2, 3]}).encode()
    parts = {
        "w": torch.tensor([0x01, 0x23, 0x45], dtype=torch.uint8)[:, None],
        "w.absmax": torch.tensor([1.0, 10.0]),
        "w.quant_map": values,
        "w.quant_state.bitsandbytes__nf4": torch.tensor(list(note), dtype=torch.uint8),
    }
    checkpoint = Checkpoint(Path("place"), {}, {n: given(t) for n, t in parts.items()})
    assert blocks_of(checkpoint, "w", "nf4").read().tolist() == [[0.0, 1.0, 2.0], [3.0, 40.0, 50.0]]


def nested(absmax: torch.Tensor, **settings: object) -> Checkpoint:
    """Return a checkpoint whose weight `[2, 3]` has codes for its two scales."""
    note = json.dumps({"blocksize": 4, "shape": [2, 3], **settings}).encode()
    parts = {
        "w": torch.tensor([0x01, 0x23, 0x45], dtype=torch.uint8)[:, None],
        "w.absmax": absmax,
        "w.nested_absmax": torch.tensor([0.5]),
        "w.nested_quant_map": torch.arange(256.0),
        "w.quant_map": torch.arange(16.0),
        "w.quant_state.bitsandbytes__nf4": torch.tensor(list(note), dtype=torch.uint8),
    }
    return Checkpoint(Path("place"), {}, {n: given(t) for n, t in parts.items()})


def test_codes_of_scales_are_looked_up_scaled_and_shifted() -> None:
    """Codes 2 and 10 of scale 0.5, and 1 added: the scales are 2 and 6."""
    checkpoint = nested(torch.tensor([2, 10], dtype=torch.uint8), nested_blocksize=2, nested_offset=1.0)
    assert blocks_of(checkpoint, "w", "nf4").read().tolist() == [[0.0, 2.0, 4.0], [6.0, 24.0, 30.0]]


@pytest.mark.parametrize(
    ("kind", "settings"),
    [
        (torch.uint8, {}),
        (torch.uint8, {"nested_blocksize": 2}),
        (torch.uint8, {"nested_offset": 1.0}),
        (torch.uint8, {"nested_blocksize": 0, "nested_offset": 1.0}),
        (torch.int32, {"nested_blocksize": 2, "nested_offset": 1.0}),
    ],
)
def test_codes_of_scales_that_nothing_explains_are_refused(kind: torch.dtype, settings: dict[str, float]) -> None:
    said = f"place: w.absmax is {str(kind).removeprefix('torch.')}, and no nested_blocksize and nested_offset say"
    with pytest.raises(SourceError, match=said):
        blocks_of(nested(torch.tensor([2, 10], dtype=kind), **settings), "w", "nf4")
