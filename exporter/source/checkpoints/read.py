"""Find the forms of a checkpoint and undo them one after the other: a prefix around an adapter around a pruned base."""

import importlib
import pkgutil
from collections.abc import Mapping
from functools import cache
from pathlib import Path
from typing import Any, Protocol, cast

from ....errors import SourceError
from . import forms
from .adapter import Adapter, check_present
from .checkpoint import Checkpoint
from .quantization import check_followed
from .state import listed, read_state
from .stored import Stored

_MOST_FORMS = 16


class Form(Protocol):
    """A module of `forms`.

    `ORDER` says which form is looked for first: prefixes have 0, integers 10, adapters and factors 20, masks and gates 40, sizes 60.
    `MARKS` are endings of tensor names, by which a refusal says what a tensor is close to.
    """

    ORDER: int
    NAME: str
    MARKS: tuple[str, ...]

    def read(self, checkpoint: Checkpoint) -> Checkpoint | None:
        """Return the checkpoint with this form undone; None where it does not have it. SourceError where it is damaged."""
        ...


@cache
def all_forms() -> tuple[Form, ...]:
    """Return the readers, in the order in which they look."""
    modules = (importlib.import_module(f"{forms.__name__}.{m.name}") for m in pkgutil.iter_modules(forms.__path__))
    return tuple(sorted((cast(Form, module) for module in modules), key=lambda form: (form.ORDER, form.NAME)))


class Weights(Protocol):
    """Where the parts of a checkpoint lie. `own_names`: its own library does not find the files by their names.
    `stored`: a model that was read from another runtime's format."""

    @property
    def directory(self) -> Path: ...
    @property
    def files(self) -> tuple[Path, ...]: ...
    @property
    def adapters(self) -> tuple[Adapter, ...]: ...
    @property
    def own_names(self) -> bool: ...
    @property
    def stored(self) -> Stored | None: ...


def read_checkpoint(weights: Weights, config: Mapping[str, Any]) -> Checkpoint | None:
    """Return a checkpoint with all its forms undone; None where it has none, and its own library reads it.

    SourceError where a form is damaged, or where forms never end.
    """
    if weights.stored is not None:
        found = weights.stored
        return undo(
            Checkpoint(
                found.file,
                config,
                found.state,
                (found.sentence,),
                integers=found.integers,
                adapters=weights.adapters,
            )
        )
    state, sentences = read_state(weights.files)
    check_present(weights.directory, state)
    if weights.own_names:
        sentences = (f"weights of {listed([f.name for f in weights.files], 3)}", *sentences)
    return undo(Checkpoint(weights.directory, config, state, sentences, adapters=weights.adapters))


def undo(checkpoint: Checkpoint) -> Checkpoint | None:
    """Return a checkpoint with all its forms undone; None where nothing has been found in it. Raises SourceError as above."""
    for _ in range(_MOST_FORMS):
        changed = next((found for form in all_forms() if (found := form.read(checkpoint)) is not None), None)
        if changed is None:
            check_followed(checkpoint)
            return checkpoint if checkpoint.sentences else None
        checkpoint = changed
    last = checkpoint.sentences[-1]
    raise SourceError(
        f"{checkpoint.directory}: more than {_MOST_FORMS} forms, one inside the other ({last}): give the model as module:callable"
    )


def close_to(names: list[str]) -> list[str]:
    """Return the names of the forms that tensors of these names remind of."""
    return [form.NAME for form in all_forms() if any(name.endswith(form.MARKS) for name in names)]
