"""Small students of a reduced vocabulary whose layers share projections: written once, or once for each layer."""

from pathlib import Path
from typing import Any

from safetensors.torch import save_model

from tests.support import checkpoints

SIZES = {"hidden_size": 48, "num_attention_heads": 4, "intermediate_size": 96, "num_hidden_layers": 3}
SHARED = ("attention.self.query", "attention.self.key", "intermediate.dense", "output.dense")


def make_shared(directory: Path, *, once: bool) -> Any:
    """Write a model whose layers have the weights of `SHARED` in common. `once`: as safetensors' save_model writes it."""
    model = checkpoints.base(directory, **SIZES)
    first = model.encoder.layer[0]
    for layer in model.encoder.layer[1:]:
        for name in SHARED:
            layer.get_submodule(name).weight = first.get_submodule(name).weight
    if once:
        save_model(model, str(directory / "model.safetensors"), {"format": "pt"})
    else:
        checkpoints.save(directory, model.state_dict())
    return model
