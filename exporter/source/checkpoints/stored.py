"""Define what a reader of another runtime's format gives."""

from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from .integers import Integers
from .state import State


@dataclass(frozen=True)
class Stored:
    """A model of another format, as transformers names its parts.

    `config` is that of transformers' class, `state` has its tensors, `sentence` says what was found. `file` holds the weights.
    `integers` are those of weights that are stored in integers, by the names that their floats have in `state`.
    `write_tokenizer` writes tokenizer files to a directory that has none; it raises SourceError where they cannot be built.
    `modules` are those of sentence-transformers that follow the encoder, as (kind, settings).
    `has_token` tells whether the file's own vocabulary, where it has one, may have a piece under an id.
    """

    file: Path
    config: Mapping[str, Any]
    state: State
    sentence: str
    write_tokenizer: Callable[[Path], None]
    modules: tuple[tuple[str, Mapping[str, Any]], ...] = field(default=())
    integers: Mapping[str, Integers] = field(default_factory=dict)
    has_token: Callable[[int, str], bool] = field(default=lambda _index, _piece: True)
