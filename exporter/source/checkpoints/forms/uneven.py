"""Blocks of uneven sizes: attention heads and neurons that were cut away, so that tensors are smaller than the config says."""

from collections.abc import Mapping
from typing import Any

from .....errors import SourceError
from ..checkpoint import Checkpoint
from ..roles import block_parts
from ..state import State

ORDER = 60
NAME = "pruned heads and neurons"
MARKS: tuple[str, ...] = ("\0",)

_HIDDEN = ("hidden_size", "dim")
_HEADS = ("num_attention_heads", "n_heads")
_WIDTHS = ("intermediate_size", "hidden_dim")


def read(checkpoint: Checkpoint) -> Checkpoint | None:
    """Take the sizes of attention and feed-forward layers from their tensors; `pruned_heads` of the config is used and removed.

    SourceError where the tensors of a block contradict each other, or `pruned_heads`.
    """
    config = checkpoint.config
    hidden, heads, width = (_setting(config, names) for names in (_HIDDEN, _HEADS, _WIDTHS))
    parts = block_parts(checkpoint.state)
    if config.get("num_key_value_heads") not in (None, heads):
        return None  # keys and values have fewer heads than queries, as the config says
    if hidden is None or not heads or width is None or not parts or checkpoint.resized & _paths(parts):
        return None
    size = checkpoint.head_size or hidden // heads
    kept = {block: _heads(checkpoint, roles, size) for block, roles in parts.items()}
    widths = {block: _width(checkpoint, roles) for block, roles in parts.items()}
    pruned = {int(block): list(gone) for block, gone in (config.get("pruned_heads") or {}).items() if gone}
    even = all(h in (None, heads) for h in kept.values()) and all(w in (None, width) for w in widths.values())
    if even and not pruned:
        return None
    for block, gone in pruned.items():
        if kept.get(block) not in (None, heads - len(set(gone))):
            raise SourceError(
                f"{checkpoint.directory}: pruned_heads of config.json takes {len(set(gone))} of {heads} heads from block {block}, and "
                f"its tensors have {kept[block]}: give the config that belongs to the weights"
            )
    resized = checkpoint.resized | _paths(parts)
    sentence = f"heads {_listed(kept, heads)} of {heads}; feed-forward {_listed(widths, width)} of {width}"
    settings = {name: value for name, value in config.items() if name != "pruned_heads"}
    return checkpoint.changed(sentence, resized=resized, config=settings)


def _setting(config: Mapping[str, Any], names: tuple[str, ...]) -> int | None:
    value = next((config[name] for name in names if name in config), None)
    return value if isinstance(value, int) else None


def _paths(parts: Mapping[int, Mapping[str, str]]) -> frozenset[str]:
    return frozenset(path for roles in parts.values() for path in roles.values())


def _rows(state: State, path: str) -> int:
    shape = state[f"{path}.weight"].shape
    return shape[0] if len(shape) == 2 else -1


def _columns(state: State, path: str) -> int:
    shape = state[f"{path}.weight"].shape
    return shape[1] if len(shape) == 2 else -1


def _heads(checkpoint: Checkpoint, roles: Mapping[str, str], size: int) -> int | None:
    """Return how many heads a block has by its tensors; None where its attention has other names."""
    state = checkpoint.state
    paths = [roles[r] for r in ("query", "key", "value") if r in roles]
    if len(paths) < 3 or "attention output" not in roles:
        return None
    rows = [*(_rows(state, path) for path in paths), _columns(state, roles["attention output"])]
    if len(set(rows)) > 1 or rows[0] < 0 or rows[0] % size:
        shapes = ", ".join(
            f"{p}.weight is {list(state[f'{p}.weight'].shape)}" for p in [*paths, roles["attention output"]]
        )
        raise SourceError(
            f"{checkpoint.directory}: {shapes}: not whole heads of {size} features in all of them: give weights and config.json of one "
            "model"
        )
    return rows[0] // size


def _width(checkpoint: Checkpoint, roles: Mapping[str, str]) -> int | None:
    """Return how many neurons a block's feed-forward has by its tensors; None where it has other names."""
    if "up" not in roles or "down" not in roles:
        return None
    up, down = _rows(checkpoint.state, roles["up"]), _columns(checkpoint.state, roles["down"])
    if up != down or up < 0:
        shapes = ", ".join(
            f"{p}.weight is {list(checkpoint.state[f'{p}.weight'].shape)}" for p in (roles["up"], roles["down"])
        )
        raise SourceError(f"{checkpoint.directory}: {shapes}: give weights and config.json of one model")
    return up


def _listed(counts: Mapping[int, int | None], usual: int) -> str:
    values = [usual if counts[b] is None else counts[b] for b in sorted(counts)]
    return str(values[0]) if len(set(values)) == 1 else ", ".join(map(str, values))
