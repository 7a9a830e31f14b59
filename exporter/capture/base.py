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
        """Inputs by name, int64 → outputs by name, float32."""
        ...

    def inside(self, feeds: Mapping[str, np.ndarray], names: list[str]) -> dict[str, np.ndarray]:
        """Results of the inner modules called `names`; those it does not know are left out."""
        ...

    def close(self) -> None:
        """Gives the weights' memory back; nothing can be run afterwards."""
        ...


@dataclass
class Captured:
    """A raw graph with named inputs and outputs, and what to compare it with."""

    model: ir.Model
    reference: Reference
    source: Source
    """The source, with what only loading it could tell: a factory's config and tokenizer directory."""
    repeated: bool = False
    """Whether layers were repeated from one trace."""
