"""Tell which tensors of a block are its queries, keys, values and matrices, by the names that the families of transformers use."""

import re
from collections.abc import Collection, Iterable

_ROLES = {
    "query": ("attention.self.query", "attention.q_lin", "attention.attn.q", "self_attn.q_proj"),
    "key": ("attention.self.key", "attention.k_lin", "attention.attn.k", "self_attn.k_proj"),
    "value": ("attention.self.value", "attention.v_lin", "attention.attn.v", "self_attn.v_proj"),
    "attention output": ("attention.output.dense", "attention.out_lin", "attention.attn.o", "self_attn.o_proj"),
    "up": ("intermediate.dense", "ffn.lin1", "mlp.up_proj"),
    "down": ("output.dense", "ffn.lin2", "mlp.down_proj"),
}
"""Paths of the linear layers of a block, below the block."""

_BLOCK = re.compile(r"(.*\.)?(?:layer|layers)\.(\d+)\.(.+)")

_NUMBER = re.compile(r"(?<=\.)\d+(?=\.)")


def block_parts(names: Iterable[str]) -> dict[int, dict[str, str]]:
    """Return for each block by its number the path of each role: `{0: {"query": "encoder.layer.0.attention.self.query", …}}`."""
    role_of = {path: role for role, paths in _ROLES.items() for path in paths}
    parts: dict[int, dict[str, str]] = {}
    for name in names:
        stem = name.removesuffix(".weight")
        match = _BLOCK.fullmatch(stem) if stem != name else None
        role = role_of.get(match[3]) if match else None
        if match and role:
            parts.setdefault(int(match[2]), {})[role] = stem
    return parts


def unlike(marked: Collection[str], paths: Iterable[str]) -> str | None:
    """Return the first of `paths` that is not `marked`, while the same module of another block is; None where all blocks are alike.

    A part of a form that one block lacks is a part that was lost: its weight would be taken for one that nothing changes.
    """
    kinds = {_NUMBER.sub("*", path) for path in marked}
    return next((path for path in paths if path not in marked and _NUMBER.sub("*", path) in kinds), None)
