"""Gates on heads and neurons beside the weights, as structured pruning trains them: one factor for each head or neuron."""

import re
from collections.abc import Mapping
from typing import Any

from .....errors import SourceError
from ..checkpoint import Checkpoint
from ..roles import block_parts, unlike
from ..scores import stretched_gate
from ..state import StoredTensor

ORDER = 44
NAME = "gates on heads and neurons"
MARKS = (".gate", ".gates", ".head_gate", ".head_mask", ".qz_loga")

_PLAIN = ("gate", "gates", "gate.weight", "head_gate", "head_gates", "head_mask", "neuron_gate", "neuron_gates")
_CONCRETE = "qz_loga"
"""The logarithm of a hard-concrete gate's odds, as L0 regularization names it."""

_ENDS = tuple(f".{end}" for end in (*_PLAIN, _CONCRETE))
_BLOCK = re.compile(r"\blayers?\.(\d+)\.")


def read(checkpoint: Checkpoint) -> Checkpoint | None:
    """Multiply the weights that read a head or a neuron by its gate, which is what the gate does to what they read.

    SourceError where gates are as many as neither heads nor neurons of their block, where a layer has two sets, and where one block
    has none.
    """
    parts = block_parts(checkpoint.state)
    found = [name for name, tensor in checkpoint.state.items() if name.endswith(_ENDS) and len(tensor.shape) == 1]
    if not found or not parts:
        return None
    state = checkpoint.without(found)
    closed, total = {"head": 0, "neuron": 0}, {"head": 0, "neuron": 0}
    gate_of: dict[str, str] = {}
    for name in found:
        kind, path, each = _target(checkpoint, parts, name)
        if path in gate_of:
            raise SourceError(
                f"{checkpoint.directory}: {gate_of[path]} and {name} are both gates of {path}: keep the one that the model runs"
            )
        gate_of[path] = name
        gates = _values(name, checkpoint.state[name])
        state[f"{path}.weight"] = _scaled(state[f"{path}.weight"], gates.repeat_interleave(each))
        closed[kind] += int((gates == 0).sum())
        total[kind] += len(gates)
    lost = unlike(gate_of, (n.removesuffix(".weight") for n in checkpoint.state if n.endswith(".weight")))
    if lost is not None:
        raise SourceError(
            f"{checkpoint.directory}: {lost} has no gates, and the same layer of other blocks has: download it again, or fold the gates "
            "into the weights and save those alone"
        )
    words = [f"{closed[kind]} of {total[kind]} {kind}s closed" for kind in closed if total[kind]]
    return checkpoint.changed(f"gates folded into {len(found)} weights: {', '.join(words)}", state=state)


def _target(checkpoint: Checkpoint, parts: Mapping[int, Mapping[str, str]], name: str) -> tuple[str, str, int]:
    """Return what a gate is for, the linear layer that reads it, and how many of its inputs each gate has."""
    (size,) = checkpoint.state[name].shape
    match = _BLOCK.search(name)
    block = parts.get(int(match[1]), {}) if match else {}
    inner = match is not None and "att" in name[match.end() :]
    path = block.get("attention output" if inner else "down", "")
    weight = checkpoint.state.get(f"{path}.weight")
    width = weight.shape[1] if weight is not None and len(weight.shape) == 2 else 0
    if inner and size and width % size == 0 and size == _heads(checkpoint, width):
        return "head", path, width // size
    if not inner and size and size == width:
        return "neuron", path, 1
    raise SourceError(
        f"{checkpoint.directory}: {name} has {size} gates, which is as many as neither the heads nor the neurons of its block: fold the "
        "gates into the weights and save those alone, or give the model as module:callable"
    )


def _heads(checkpoint: Checkpoint, width: int) -> int:
    """Return how many heads an attention of `width` features has."""
    config = checkpoint.config
    hidden, heads = (
        config.get("hidden_size", config.get("dim", 0)),
        config.get("num_attention_heads", config.get("n_heads", 0)),
    )
    size = checkpoint.head_size or (hidden // heads if heads else 0)
    return width // size if size else 0


def _values(name: str, tensor: StoredTensor) -> Any:
    given = tensor.read().float()
    return stretched_gate(given) if name.endswith(_CONCRETE) else given


def _scaled(weight: StoredTensor, gates: Any) -> StoredTensor:
    return weight.computed(lambda given: given * gates[None])
