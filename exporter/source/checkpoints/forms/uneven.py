"""Blocks of uneven sizes: attention heads and neurons that were cut away, so that tensors are smaller than the config says."""

from collections.abc import Iterable, Mapping
from typing import Any

from .....errors import SourceError
from ..checkpoint import Checkpoint, pruned_heads
from ..roles import block_parts
from ..state import State, StoredTensor

ORDER = 60
NAME = "pruned heads and neurons"
MARKS: tuple[str, ...] = ("\0",)

_HIDDEN = ("hidden_size", "dim")
_HEADS = ("num_attention_heads", "n_heads")
_WIDTHS = ("intermediate_size", "hidden_dim")
_BY_HEAD = "relative_attention_bias.weight"
"""A tensor with a column for each head of the config: MPNet's relative positions."""


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
    size = checkpoint.head_size or _attended(config, hidden, heads) // heads
    if size < 1:
        return None  # no config of any model: the class refuses it
    kept = {block: _heads(checkpoint, roles, size, heads) for block, roles in parts.items()}
    widths = {block: _width(checkpoint, roles) for block, roles in parts.items()}
    pruned = pruned_heads(checkpoint)
    even = all(h in (None, heads) for h in kept.values()) and all(w in (None, width) for w in widths.values())
    if even and not pruned:
        return None
    for block, gone in pruned.items():
        if any(head >= heads for head in gone) or kept.get(block) not in (None, heads - len(gone)):
            raise SourceError(
                f"{checkpoint.directory}: pruned_heads of config.json takes {len(gone)} of {heads} heads from block {block} "
                f"({', '.join(map(str, gone))}), and its tensors have {kept[block]}: give the config that belongs to the weights"
            )
    state = dict(checkpoint.state)
    for block, roles in parts.items():
        state |= _with_zero_heads(checkpoint, block, roles, kept[block], (heads, size), pruned.get(block))
    resized = checkpoint.resized | _paths(parts)
    sentence = f"heads {_listed(kept, heads)} of {heads}; feed-forward {_listed(widths, width)} of {width}"
    settings = {name: value for name, value in config.items() if name != "pruned_heads"}
    return checkpoint.changed(sentence, state=state, resized=resized, config=settings)


def _attended(config: Mapping[str, Any], hidden: int, heads: int) -> int:
    """Return how many features all heads have: those that `head_dim` names, those inside MobileBERT's bottleneck, or the hidden size."""
    head_dim = config.get("head_dim")
    if isinstance(head_dim, int):
        return head_dim * heads
    inner = config.get("intra_bottleneck_size")
    return inner if isinstance(inner, int) and config.get("use_bottleneck", True) else hidden


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


def _heads(checkpoint: Checkpoint, roles: Mapping[str, str], size: int, heads: int) -> int | None:
    """Return how many heads a block has by its tensors; None where its attention has other names.

    Where the config says that heads share keys and values, tensors of the sizes that it says hold all `heads`.
    """
    state = checkpoint.state
    paths = [roles[r] for r in ("query", "key", "value") if r in roles]
    if len(paths) < 3 or "attention output" not in roles:
        return None
    rows = [*(_rows(state, path) for path in paths), _columns(state, roles["attention output"])]
    shared = checkpoint.config.get("num_key_value_heads")
    if isinstance(shared, int) and rows == [heads * size, shared * size, shared * size, heads * size]:
        return heads
    if (
        len(set(rows)) > 1 and "head_ratio" in checkpoint.config
    ):  # ConvBERT: fewer heads than the config says, beside a convolution
        return None
    if len(set(rows)) > 1 or rows[0] < 0 or rows[0] % size:
        shapes = ", ".join(
            f"{p}.weight is {list(state[f'{p}.weight'].shape)}" for p in [*paths, roles["attention output"]]
        )
        raise SourceError(
            f"{checkpoint.directory}: {shapes}: not whole heads of {size} features in all of them: give weights and config.json of one "
            "model"
        )
    return rows[0] // size


def _with_zero_heads(
    checkpoint: Checkpoint,
    block: int,
    roles: Mapping[str, str],
    count: int | None,
    sizes: tuple[int, int],
    gone: Iterable[int] | None,
) -> dict[str, StoredTensor]:
    """Return tensors of an attention with heads of zeros, which add nothing, where it cannot be built without them.

    These are the one head of an attention that has none, and heads between others where each head has positions of its own.
    The graph is cut afterwards. `sizes`: heads of the config, features of a head. SourceError where nothing names the heads.
    """
    heads, size = sizes
    if count is None or count == heads:
        return {}
    by_head = any(name.endswith(_BY_HEAD) for name in checkpoint.state)
    if not by_head and count:
        return {}
    if by_head and gone is None:
        raise SourceError(
            f"{checkpoint.directory}: block {block} has {count} of {heads} heads, each of which has relative positions of its own, and "
            "nothing says which are left: list those that were cut away in pruned_heads of config.json"
        )
    of, left = (heads, sorted(set(range(heads)) - set(gone or ()))) if by_head else (1, [])
    tensors = {}
    for role in ("query", "key", "value", "attention output"):
        for end in ("weight", "bias"):
            tensor = checkpoint.state.get(f"{roles[role]}.{end}")
            axis = int(role == "attention output")
            if tensor is not None and axis < len(tensor.shape):
                tensors[f"{roles[role]}.{end}"] = _spread(tensor, axis, of * size, _columns_of(left, size))
    return tensors


def _columns_of(heads: Iterable[int], size: int) -> list[int]:
    return [head * size + i for head in heads for i in range(size)]


def _spread(tensor: StoredTensor, axis: int, length: int, places: list[int]) -> StoredTensor:
    """Return a tensor of `length` along an axis: its own slices at `places`, zeros elsewhere."""
    shape = tuple(length if i == axis else n for i, n in enumerate(tensor.shape))

    def spread(given: Any) -> Any:
        import torch

        return given.new_zeros(shape).index_copy(axis, torch.tensor(places, dtype=torch.long), given)

    return tensor.computed(spread, shape=shape)


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
