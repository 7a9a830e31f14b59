"""Refuse numbers and sizes in a source that no model has, before anything is allocated or built by them."""

import struct
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from ...errors import SourceError

_LAYERS = 4096
_WIDTH = 1 << 20
_ROWS = 1 << 28

_MOST: dict[str, int] = {
    **dict.fromkeys(("num_hidden_layers", "n_layers", "n_layer", "num_layers", "encoder_layers"), _LAYERS),
    **dict.fromkeys(("num_attention_heads", "n_heads", "n_head", "num_heads", "num_key_value_heads"), _WIDTH),
    **dict.fromkeys(("hidden_size", "dim", "d_model", "n_embd", "embedding_size", "head_dim"), _WIDTH),
    **dict.fromkeys(("intermediate_size", "hidden_dim", "d_ff", "ffn_dim", "n_inner"), _WIDTH),
    **dict.fromkeys(("max_position_embeddings", "n_positions", "max_seq_length", "type_vocab_size"), _ROWS),
    **dict.fromkeys(("vocab_size", "num_labels", "pad_token_id"), _ROWS),
}
"""The largest value of a setting by which memory is allocated or modules are built."""

MOST_HEADER = 100_000_000
"""The largest header of a safetensors file in bytes, as in the format's own library."""


def check_bounds(config: Mapping[str, Any], path: Path) -> None:
    """Raise SourceError naming a setting of a config that is no number where one is due, or larger than that of any model."""
    for name, most in _MOST.items():
        value = config.get(name)
        if value is None or (name in ("pad_token_id", "max_position_embeddings") and value == -1):
            continue
        if isinstance(value, list) and value and all(_fits(item, most) for item in value):  # a width for each block
            continue
        if not _fits(value, most):
            shown = repr(value)
            shown = shown if len(shown) < 60 else shown[:57] + "…"
            raise SourceError(
                f"{path}: {name} = {shown}: an integer from 0 to {most} is expected; correct it, or download the file again"
            )
    classes = config.get("id2label")
    if classes is not None and not isinstance(classes, Mapping):
        raise SourceError(
            f"{path}: id2label: an object of class names by index is expected, not {type(classes).__name__}"
        )
    for name in ("model_type", "problem_type"):
        if not isinstance(config.get(name, ""), str | None):
            raise SourceError(f"{path}: {name}: text is expected, not {config[name]!r}")
    architectures = config.get("architectures")
    if architectures is not None and not (
        isinstance(architectures, str)
        or (isinstance(architectures, list) and all(isinstance(a, str) for a in architectures))
    ):
        raise SourceError(f"{path}: architectures: a list of class names is expected")


def check_header(path: Path) -> None:
    """Raise SourceError where a safetensors file announces a header that is longer than itself, or than any header is."""
    try:
        size = path.stat().st_size
        with path.open("rb") as file:
            first = file.read(8)
    except OSError as error:
        raise SourceError(f"{path}: {error.strerror}") from error
    if len(first) < 8:
        raise SourceError(f"{path}: {size} bytes are no safetensors file; download it again")
    (length,) = struct.unpack("<Q", first)
    if length > min(size - 8, MOST_HEADER):
        raise SourceError(
            f"{path}: truncated or damaged: it announces a header of {length / 1e6:,.1f} MB, and has {size / 1e6:,.1f} MB itself; "
            "download it again"
        )


def check_index(path: Path, index: Mapping[str, Any]) -> list[str]:
    """Return the names of the shards that an index lists. SourceError where one is no plain name beside it."""
    shards = index.get("weight_map")
    if not isinstance(shards, Mapping) or not shards:
        raise SourceError(f"{path}: weight_map: an object of file names by tensor is expected; download it again")
    names = set()
    for tensor, name in shards.items():
        if not isinstance(name, str) or not name or Path(name).name != name or "\\" in name:
            raise SourceError(
                f"{path}: weight_map.{tensor}: {name!r} is no name of a file beside the index; download it again"
            )
        names.add(name)
    return sorted(names)


def limit(value: Any, path: Path, name: str) -> int | None:
    """Return a limit in tokens from a settings file; None where it sets none, as tokenizers do by a huge number."""
    if value is None:
        return None
    if isinstance(value, bool) or not isinstance(value, int | float) or value != value or value < 1:
        raise SourceError(f"{path}: {name} = {value!r}: a number of tokens is expected; correct it, or leave it out")
    return int(value) if value < _ROWS else None


def _fits(value: Any, most: int) -> bool:
    return type(value) is int and 0 <= value <= most
