"""TinyBERT as it is published: heads of 26, layers of its distillation, and a config without a family."""

from pathlib import Path
from typing import Any

import torch

from tests.support import checkpoints

SIZES = {"hidden_size": 52, "num_attention_heads": 2, "intermediate_size": 96, "num_hidden_layers": 4}


def make_tiny_bert(directory: Path, *, layers: bool = False) -> Any:
    """Write a student with one `fit_dense`, or with one for each layer."""
    model = checkpoints.base(directory, **SIZES)
    names = [f"fit_denses.{i}" for i in range(5)] if layers else ["fit_dense"]
    width = model.config.hidden_size
    fit = {f"{n}.{end}": torch.randn(*size) for n in names for end, size in (("weight", (96, width)), ("bias", (96,)))}
    state = {f"bert.{k}": v for k, v in model.state_dict().items()} | fit
    notes = {"cell": {}, "emb_size": width, "structure": [], "pre_trained": "", "training": ""}
    checkpoints.save(directory, state, model_type=None, architectures=None, **notes)
    return model
