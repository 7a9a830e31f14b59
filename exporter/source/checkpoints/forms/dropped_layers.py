"""Layers that were dropped: those left have their old numbers (LayerDrop, Patient Knowledge Distillation)."""

import re
from collections import defaultdict

from .....errors import SourceError
from ..checkpoint import Checkpoint, layers_of, pruned_heads

ORDER = 50
NAME = "layers that keep their old numbers after others were dropped"
MARKS: tuple[str, ...] = ("\0",)

_LISTS = ("layer", "layers")
_DEPTHS = ("num_hidden_layers", "n_layers")


def read(checkpoint: Checkpoint) -> Checkpoint | None:
    """Renumber the layers, and set their number in the config: to run the rest in order is what the method does.

    SourceError where a layer has other tensors than the first, and where a layer's number decides what it computes.
    """
    found = layers_of(checkpoint.state)
    depth = next((name for name in _DEPTHS if name in checkpoint.config), None)
    if found is None or depth is None or found[0].split(".")[-1] not in _LISTS:
        return None
    path, kept = found
    if kept == list(range(len(kept))):
        return None
    _check(checkpoint, path, kept)
    numbers = {old: new for new, old in enumerate(kept)}
    name_of = re.compile(rf"{re.escape(path)}\.(\d+)\.")
    state = {
        name_of.sub(lambda match: f"{path}.{numbers[int(match[1])]}.", name, count=1): tensor
        for name, tensor in checkpoint.state.items()
    }
    before = checkpoint.config[depth]
    of = f" of {before}" if isinstance(before, int) and before > kept[-1] else ""
    sentence = f"{len(kept)} layers{of}, LayerDrop kept {', '.join(map(str, kept))}"
    config = {**checkpoint.config, depth: len(kept)}
    pruned = pruned_heads(checkpoint)
    if pruned:  # by old numbers, too
        config["pruned_heads"] = {str(numbers[old]): pruned[old] for old in kept if old in pruned}
    return checkpoint.changed(sentence, state=state, config=config)


def _check(checkpoint: Checkpoint, path: str, kept: list[int]) -> None:
    config = checkpoint.config
    if any(name in config for name in ("layer_types", "global_attn_every_n_layers")):
        raise SourceError(
            f"{checkpoint.directory}: {path} has the layers {', '.join(map(str, kept))} alone, and in this family a layer's number decides "
            "how it attends: give the model as module:callable"
        )
    tensors: dict[int, set[str]] = defaultdict(set)
    for name in checkpoint.state:
        match = re.fullmatch(rf"{re.escape(path)}\.(\d+)\.(.+)", name)
        if match:
            tensors[int(match[1])].add(match[2])
    whole = set().union(*tensors.values())
    for number in kept:
        missing = sorted(whole - tensors[number])
        if missing:
            raise SourceError(
                f"{checkpoint.directory}: {path}.{number} lacks {missing[0]}, which other layers have: the checkpoint is not whole; "
                "download it again"
            )
