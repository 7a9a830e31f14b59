"""Tensors of a checkpoint that are read when they are needed: names, shapes and types come from the files' headers alone."""

import json
import struct
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

from ....errors import SourceError
from .pickled import read_pickle

_SAFETENSORS = {
    "F64": "float64",
    "F32": "float32",
    "F16": "float16",
    "BF16": "bfloat16",
    "F8_E4M3": "float8_e4m3fn",
    "F8_E5M2": "float8_e5m2",
    "I64": "int64",
    "I32": "int32",
    "I16": "int16",
    "I8": "int8",
    "U8": "uint8",
    "BOOL": "bool",
}
"""torch's names of the types that safetensors headers name."""


@dataclass(frozen=True)
class StoredTensor:
    """A tensor that is read when it is needed. `dtype` is torch's name of its type; `read` returns a torch tensor."""

    shape: tuple[int, ...]
    dtype: str
    read: Callable[[], Any]
    stored_as: str | None = None
    """The name of the tensor that a file holds in this one's place, where both are the same."""

    @property
    def floating(self) -> bool:
        """Whether its numbers are floats."""
        return "float" in self.dtype

    def computed(self, function: Callable[[Any], Any], *, shape: tuple[int, ...] | None = None) -> "StoredTensor":
        """Return the tensor that `function` makes of this one; it is float32, and of the same shape unless `shape` is given."""
        return replace(self, shape=shape or self.shape, dtype="float32", read=lambda: function(self.read()))


State = Mapping[str, StoredTensor]
"""The tensors of a checkpoint by name."""


def given(tensor: Any) -> StoredTensor:
    """Return a torch tensor that is in memory already as a stored one."""
    return StoredTensor(tuple(tensor.shape), str(tensor.dtype).removeprefix("torch."), lambda: tensor)


def read_state(files: tuple[Path, ...]) -> tuple[dict[str, StoredTensor], tuple[str, ...]]:
    """Return the tensors of weight files, and a sentence for each file of which anything else is left out.

    Files are safetensors, or pickled state dicts, which are loaded with `weights_only`. SourceError for a pickle that holds no state
    dict, and for a name in two files.
    """
    state: dict[str, StoredTensor] = {}
    sentences = []
    for path in files:
        if path.suffix == ".safetensors":
            tensors = _safetensors(path)
        else:
            loaded, left = read_pickle(path)
            tensors = {name: given(tensor) for name, tensor in loaded.items()}
            if left:
                sentences.append(f"{path.name} also holds {listed(left)}, which no export needs")
        twice = sorted(state.keys() & tensors.keys())
        if twice:
            raise SourceError(f"{path}: the tensor {twice[0]} is in another shard, too: download the checkpoint again")
        state |= tensors
    return state, tuple(sentences)


def listed(names: Sequence[str], most: int = 10) -> str:
    """Return the first names, and how many more there are."""
    return ", ".join(names[:most]) + (f" and {len(names) - most} more" if len(names) > most else "")


def _safetensors(path: Path) -> dict[str, StoredTensor]:
    with path.open("rb") as file:
        (length,) = struct.unpack("<Q", file.read(8))
        header = json.loads(file.read(length))
    notes = header.pop("__metadata__", None) or {}
    state = {
        name: StoredTensor(tuple(entry["shape"]), _SAFETENSORS.get(entry["dtype"], entry["dtype"]), _reader(path, name))
        for name, entry in header.items()
    }
    # Where a module holds one tensor twice, the library's save_model writes it once, and the other names as notes.
    twins = {name: other for name, other in notes.items() if name not in state and other in state}
    return state | {name: replace(state[other], stored_as=other) for name, other in twins.items()}


def _reader(path: Path, name: str) -> Callable[[], Any]:
    def read() -> Any:
        from safetensors import safe_open

        with safe_open(path, framework="pt") as file:
            return file.get_tensor(name)

    return read
