"""Heads and neurons cut away as `prune_heads` of transformers 4 did it: smaller tensors, and `pruned_heads` in the config."""

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import torch

from tests.support import checkpoints

NAMES = {
    "distilbert": ("transformer.layer.{}.attention.", ("q_lin", "k_lin", "v_lin"), "out_lin", "n_heads"),
    "mpnet": ("encoder.layer.{}.attention.attn.", ("q", "k", "v"), "o", "num_attention_heads"),
}
USUAL = ("encoder.layer.{}.attention.", ("self.query", "self.key", "self.value"), "output.dense", "num_attention_heads")


def make_pruned(
    directory: Path,
    heads: Mapping[int, Sequence[int]],
    neurons: Mapping[int, Sequence[int]] | None = None,
    *,
    family: str = "bert",
    listed: bool = True,
    **changes: Any,
) -> dict[str, Any]:
    """Write a model without `heads` and `neurons`, by layer. Return what it computes: what the dense one does with those masked.

    That is how the paper defines it: the result of a head that is cut away is 0 in the sum over heads.
    """
    model = checkpoints.base(directory, family, **changes)
    path, inner, out, count = NAMES.get(family, USUAL)
    prefix = f"{model.base_model_prefix}." if hasattr(model, model.base_model_prefix) else ""
    path = prefix + path
    hidden = model.config.hidden_size
    size = hidden // getattr(model.config, count)
    state = dict(model.state_dict())
    for layer, gone in heads.items():
        rows = torch.tensor([i for i in range(hidden) if i // size not in gone], dtype=torch.long)
        last = model.get_submodule(f"{path.format(layer)}{out}")
        with torch.no_grad():
            last.weight[:, [i for i in range(hidden) if i // size in gone]] = 0
        for name in inner:
            stem = f"{path.format(layer)}{name}"
            state[f"{stem}.weight"], state[f"{stem}.bias"] = state[f"{stem}.weight"][rows], state[f"{stem}.bias"][rows]
        state[f"{path.format(layer)}{out}.weight"] = state[f"{path.format(layer)}{out}.weight"][:, rows]
    for layer, dead in (neurons or {}).items():
        up, down = (f"{prefix}encoder.layer.{layer}.{name}" for name in ("intermediate.dense", "output.dense"))
        rows = torch.tensor([i for i in range(model.config.intermediate_size) if i not in dead])
        with torch.no_grad():
            model.get_submodule(down).weight[:, list(dead)] = 0
        state[f"{up}.weight"], state[f"{up}.bias"] = state[f"{up}.weight"][rows], state[f"{up}.bias"][rows]
        state[f"{down}.weight"] = state[f"{down}.weight"][:, rows]
    answers = checkpoints.forward(model)
    pruned = {str(layer): list(gone) for layer, gone in heads.items()}
    checkpoints.save(directory, state, **({"pruned_heads": pruned} if listed else {}))
    return answers
