"""Define what a capture gives: the graph, and the reference that judges it."""

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Protocol

import numpy as np
import onnx_ir as ir

from ..source.source import Source


class Reference(Protocol):
    """The source model, kept to compare with."""

    def run(self, feeds: Mapping[str, np.ndarray]) -> dict[str, np.ndarray]:
        """Return outputs by name, float32, for inputs by name, int64 `[batch, sequence]`."""
        ...

    def inside(self, feeds: Mapping[str, np.ndarray], names: list[str]) -> dict[str, np.ndarray]:
        """Return the results of the inner modules called `names`; unknown names are left out."""
        ...

    def close(self) -> None:
        """Free the memory of the weights; nothing can be run afterwards."""
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
