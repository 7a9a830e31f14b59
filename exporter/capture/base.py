"""Define what a capture gives: the graph, and the reference that judges it."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import Protocol, runtime_checkable

import numpy as np
import onnx_ir as ir

from ...errors import SourceError
from ...text import Text
from ..source.source import Source
from .onnx_distance import Distance

Axes = tuple[int | str, ...]
"""The axes of an output: "batch", "choices", "sequence", or a size that does not change."""


class NotRunError(SourceError):
    """The source's own code fails on an input: its answer is that it has none."""


@dataclass(frozen=True)
class Answers:
    """What a source's own library makes of texts: the token ids of each, and outputs by name.

    Outputs per token are padded with zeros on the right, whatever side the library pads.
    """

    ids: list[np.ndarray]
    outputs: dict[str, np.ndarray]


def align(rows: Sequence[np.ndarray]) -> np.ndarray:
    """Return rows of different lengths as one array, padded with zeros on the right."""
    longest = max(len(row) for row in rows)
    return np.stack([np.pad(row, ((0, longest - len(row)), *((0, 0),) * (row.ndim - 1))) for row in rows])


class Reference(Protocol):
    """The source model, kept to compare with."""

    @property
    def judge(self) -> str:
        """The library, its version and the call that gives the answers."""
        ...

    def run(self, feeds: Mapping[str, np.ndarray]) -> dict[str, np.ndarray]:
        """Return outputs by name, float32, for inputs by name, int64 `[batch, sequence]`."""
        ...

    def from_text(self, texts: Sequence[Text]) -> Answers:
        """Return what the source's own library makes of texts, tokenizer, prompts and limits included."""
        ...

    def inside(self, feeds: Mapping[str, np.ndarray], names: list[str]) -> dict[str, np.ndarray]:
        """Return the results of the inner modules called `names`; unknown names are left out."""
        ...

    def close(self) -> None:
        """Free the memory of the weights; nothing can be run afterwards."""
        ...


@runtime_checkable
class TwoSided(Protocol):
    """A reference that reads queries in another way than documents."""

    def from_side(self, texts: Sequence[Text], side: str) -> Answers:
        """Return what the source's own library makes of texts as `query` or `document`.

        Ids are those of the tokens that give vectors; outputs per token are padded on the right to the library's own width.
        """
        ...


@dataclass
class Captured:
    """A raw graph with named inputs and outputs, and what to compare it with."""

    model: ir.Model
    reference: Reference
    source: Source
    """The source, completed by loading it: a factory's config and tokenizer directory are known only then."""
    repeated: bool = False
    """Whether equal layers were repeated from one trace."""
    axes: Mapping[str, Axes] = field(default_factory=dict)
    """Outputs' axes as running the source shows them, where the graph's own names are not relied on."""


@runtime_checkable
class RoundsMore(Protocol):
    """A reference without roundings that the source does at run time. `distance` is how far the source itself is; None without any."""

    distance: Distance | None
