"""Blocks of 4-bit codes. Refusals are tested with the form that has them."""

import json
from pathlib import Path

import torch

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
