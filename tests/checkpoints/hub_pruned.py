"""nn_pruning's models as they are published: heads cut away by `pruned_heads`, neurons of zeros or cut away, norms or none."""

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import torch

from tests.support import checkpoints

HEADS = {0: [1], 2: [0, 2, 3]}
NEURONS = {0: range(20), 1: range(30, 64), 2: range(0, 64, 2)}
_SIZE = 8


class ScaleAndShift(torch.nn.Module):
    """A norm without a norm."""

    def __init__(self, norm: torch.nn.LayerNorm):
        super().__init__()
        self.weight, self.bias = norm.weight, norm.bias

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        return x * self.weight + self.bias


def make_hub(
    directory: Path,
    *,
    without_norms: bool,
    cropped: bool,
    heads: Mapping[int, Sequence[int]] = HEADS,
    neurons: Mapping[int, Sequence[int]] = NEURONS,
) -> Any:
    """Write a model without `heads` and `neurons`, by layer; return the dense module in which both are masked.

    A `cropped` one has uneven feed-forward layers, which the config does not say; others have rows and columns of zeros there.
    """
    model = checkpoints.base(directory, task="question-answering", num_hidden_layers=3, hidden_act="relu")
    if without_norms:
        for name, module in list(model.named_modules()):
            if isinstance(module, torch.nn.LayerNorm):
                model.set_submodule(name, ScaleAndShift(module))
    layers = model.bert.encoder.layer
    with torch.no_grad():
        for i, gone in heads.items():
            layers[i].attention.output.dense.weight[:, _rows(gone)] = 0
        for i, dead in neurons.items():
            layers[i].intermediate.dense.weight[list(dead)] = 0
            layers[i].intermediate.dense.bias[list(dead)] = 0
            layers[i].output.dense.weight[:, list(dead)] = 0
    state = dict(model.state_dict())
    for i, gone in heads.items():
        for name in ("self.query", "self.key", "self.value"):
            _take(state, f"bert.encoder.layer.{i}.attention.{name}", 0, _rows(gone))
        _take(state, f"bert.encoder.layer.{i}.attention.output.dense", 1, _rows(gone))
    if cropped:
        for i, dead in neurons.items():
            _take(state, f"bert.encoder.layer.{i}.intermediate.dense", 0, dead)
            _take(state, f"bert.encoder.layer.{i}.output.dense", 1, dead)
    settings = {"layer_norm_type": "no_norm"} if without_norms else {}
    checkpoints.save(directory, state, pruned_heads={str(i): list(gone) for i, gone in heads.items()}, **settings)
    return model


def _rows(heads: Sequence[int]) -> list[int]:
    return [head * _SIZE + i for head in heads for i in range(_SIZE)]


def _take(state: dict[str, torch.Tensor], path: str, axis: int, gone: Sequence[int]) -> None:
    """Take rows (with those of the bias) or columns out of a layer."""
    for end in ("weight", "bias") if axis == 0 else ("weight",):
        tensor = state[f"{path}.{end}"]
        left = [i for i in range(tensor.shape[axis]) if i not in set(gone)]
        state[f"{path}.{end}"] = tensor.index_select(axis, torch.tensor(left, dtype=torch.long))
