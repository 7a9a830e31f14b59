"""Define what a reader of a compressed form is given and returns."""

import re
from collections import Counter
from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any

from ....errors import SourceError
from .adapter import Adapter
from .integers import Integers
from .state import State, StoredTensor


@dataclass(frozen=True)
class Checkpoint:
    """A checkpoint as far as its form is understood: tensors, config, and how its modules differ from those of its class.

    A reader returns a new one, in which its form is undone: masks are folded, names are those of the class, numbers are floats.
    The module that is built afterwards has the sizes of `resized` from the tensors, and everything else from the config.
    """

    directory: Path
    config: Mapping[str, Any]
    state: State
    sentences: tuple[str, ...] = ()
    """What was found, a sentence for each form, in the order in which the forms were undone."""
    resized: frozenset[str] = frozenset()
    """Paths of linear layers and embeddings whose sizes are those of their tensors. `path.0.weight` and `path.1.weight` make two
    layers of one."""
    replaced: Mapping[str, str] = field(default_factory=dict)
    """Kinds of modules by path, where they are not those of the class: `no_norm` is a scale and a shift alone."""
    integers: Mapping[str, Integers] = field(default_factory=dict)
    """Integers of weights by the weights' names, whose floats are in `state`: the artifact holds them where its target can."""
    rounded_inputs: Mapping[str, float] = field(default_factory=dict)
    """Steps by the path of linear layers whose inputs are rounded to multiples of them, from -127 to 127."""
    head_size: int | None = None
    """Features of a head, where hidden size ÷ heads of the config is not it."""

    adapters: tuple[Adapter, ...] = ()
    """Adapters that are still to be merged, in order."""

    def renamed(self, name_of: Callable[[str], str]) -> "Checkpoint":
        """Return a copy in which tensors have the names that `name_of` gives, and modules the paths."""
        return replace(
            self,
            state={name_of(name): tensor for name, tensor in self.state.items()},
            resized=frozenset(map(name_of, self.resized)),
            replaced={name_of(path): kind for path, kind in self.replaced.items()},
            integers={name_of(name): integers for name, integers in self.integers.items()},
            rounded_inputs={name_of(path): step for path, step in self.rounded_inputs.items()},
        )

    def changed(self, sentence: str, **changes: Any) -> "Checkpoint":
        """Return a copy with `changes`, and one more sentence."""
        return replace(self, sentences=(*self.sentences, sentence), **changes)

    def without(self, names: Iterable[str]) -> dict[str, StoredTensor]:
        """Return the tensors but for those of `names`."""
        gone = set(names)
        return {name: tensor for name, tensor in self.state.items() if name not in gone}


def pruned_heads(checkpoint: Checkpoint) -> dict[int, list[int]]:
    """Return the heads that the config's `pruned_heads` takes from blocks, by block, sorted. SourceError where it is something else."""
    given = checkpoint.config.get("pruned_heads") or {}
    try:
        pruned = {int(block): sorted({int(head) for head in gone}) for block, gone in given.items()}
    except (AttributeError, TypeError, ValueError) as error:
        raise SourceError(
            f"{checkpoint.directory}: pruned_heads of config.json = {str(given)[:60]}: lists of heads by block are expected; correct it"
        ) from error
    return {block: gone for block, gone in pruned.items() if gone}


_NUMBERED = re.compile(r"(.*?)\.(\d+)\.(.+)")


def layers_of(names: Iterable[str]) -> tuple[str, list[int]] | None:
    """Return the path of the numbered list that holds most tensors, and its numbers in order; None where nothing is numbered."""
    numbers: dict[str, set[int]] = {}
    counts: Counter[str] = Counter()
    for name in names:
        match = _NUMBERED.match(name)
        if match:
            counts[match[1]] += 1
            numbers.setdefault(match[1], set()).add(int(match[2]))
    if not counts:
        return None
    path = counts.most_common(1)[0][0]
    return path, sorted(numbers[path])
