"""Magnitude pruning by torch.nn.utils.prune, whose masks stay in the state dict."""

from collections.abc import Callable
from pathlib import Path
from typing import Any

import torch
from torch.nn.utils import prune

from tests.support import checkpoints


def two_of_four(layer: torch.nn.Linear) -> None:
    """Prune the two smallest of each four inputs of every output, as sparse tensor cores want them."""
    groups = layer.weight.detach().abs().unflatten(1, (-1, 4))
    mask = torch.zeros_like(groups).scatter_(-1, groups.topk(2, dim=-1).indices, 1.0)
    prune.custom_from_mask(layer, "weight", mask.flatten(1))


def make_masked(
    directory: Path,
    amount: float = 0.4,
    *,
    prefix: str = "",
    prune_layer: Callable[[torch.nn.Linear], Any] | None = None,
    **changes: Any,
) -> Any:
    """Write a pruned classifier, its pooler and classifier included; return the module, whose masks are applied."""
    model = checkpoints.base(directory, task="text-classification", **changes)
    for name, module in list(model.named_modules()):
        if isinstance(module, torch.nn.Linear) and prune_layer is not None and "encoder" in name:
            prune_layer(module)
        elif isinstance(module, torch.nn.Linear):
            prune.l1_unstructured(module, "weight", amount)
    checkpoints.save(directory, {f"{prefix}{k}": v for k, v in model.state_dict().items()})
    return model
