"""LayerDrop: a model trained with random layers left out, of which some are kept."""

from collections.abc import Sequence
from pathlib import Path
from typing import Any

import torch

from tests.support import checkpoints


def make_dropped(
    directory: Path,
    kept: Sequence[int],
    *,
    of: int = 6,
    family: str = "bert",
    says: int | None = None,
    renumbered: bool = False,
) -> Any:
    """Write a model of `of` layers of which `kept` are left; its config says `says`. Return the module of those layers."""
    depth = "n_layers" if family == "distilbert" else "num_hidden_layers"
    model: Any = checkpoints.base(directory, family, **{depth: of})
    stack = model.transformer if family == "distilbert" else model.encoder
    path = "transformer.layer" if family == "distilbert" else "encoder.layer"
    state = dict(model.state_dict())
    stack.layer = torch.nn.ModuleList(stack.layer[i] for i in kept)
    if renumbered:
        state = dict(model.state_dict())
    else:
        numbers = tuple(f"{path}.{i}." for i in range(of) if i not in kept)
        state = {k: v for k, v in state.items() if not k.startswith(numbers)}
    checkpoints.save(directory, state, **{depth: says or of})
    return model
