"""Sound checkpoints of the forms that are read, and what makes hostile twins of them. Each form's test file has one as `SOUND`."""

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch

from tests.support import checkpoints, integer_checkpoints

QUERY = integer_checkpoints.QUERY
BERT_QUERY = f"bert.{QUERY}"
NORM = "encoder.layer.1.output.LayerNorm.weight"
PLAIN = {f"{QUERY}.weight": torch.zeros(32, 32)}
"""A float weight beside its own integers."""


@dataclass(frozen=True)
class Sound:
    """A form's checkpoint: `make` writes it into a directory. `part`: a tensor that it cannot miss. `more`: tensors that contradict it.

    `named`: what refusals name in the place of these tensors, since it says more.
    """

    make: Callable[[Path], Any]
    part: str
    more: Mapping[str, torch.Tensor]
    named: tuple[str, ...] = ()


def renamed(prefix: str) -> Callable[[Path], Any]:
    """Return a maker of an ordinary model, with a prefix before the names of its tensors."""

    def make(directory: Path) -> Any:
        state = checkpoints.base(directory).state_dict()
        return checkpoints.save(directory, {prefix + name: tensor for name, tensor in state.items()})

    return make


def integers(pack: Any, settings: dict[str, Any], **options: Any) -> Callable[[Path], Any]:
    """Return a maker of a model whose weights are integers."""
    return lambda directory: integer_checkpoints.make_quantized(directory, pack, settings, **options)
