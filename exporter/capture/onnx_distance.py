"""Measure how far a source's own outputs are from those without the rounding that it does at run time."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path

import numpy as np

from ...errors import SourceError

_LEAST_COSINE = 0.5
"""Below, the graph as it was read is another model than the source, whatever is rounded."""


@dataclass
class Distance:
    """Sums over all real positions of all outputs.

    `left_out`: what the source does beside; `kind`: what it is, a file or a module; `runs`: whether it itself runs here.
    """

    left_out: Sequence[str]
    kind: str = "file"
    runs: bool = True
    products: dict[str, np.ndarray] = field(default_factory=dict)
    furthest: float = 0.0
    largest: float = 0.0
    rows: int = 0
    agreeing: int = 0

    def add(
        self, feeds: Mapping[str, np.ndarray], own: Mapping[str, np.ndarray], read: Mapping[str, np.ndarray]
    ) -> None:
        """Compare the outputs of one batch, at real positions where they are per token. What is not finite does not count."""
        mask = feeds.get("attention_mask")
        for name, array in read.items():
            theirs = own.get(name)
            if theirs is None or theirs.shape != array.shape or not np.issubdtype(array.dtype, np.floating):
                continue
            if mask is not None:  # rows without a token have no answer of their own
                per_token = array.shape[: mask.ndim] == mask.shape
                counted = mask.astype(bool) if per_token else mask.any(axis=-1)
                if array.shape[: counted.ndim] == counted.shape:
                    array, theirs = array[counted], theirs[counted]
            a, b = (x.reshape(len(x), -1).astype(np.float64) for x in (theirs, array))
            finite = np.isfinite(a).all(axis=1) & np.isfinite(b).all(axis=1)
            a, b = a[finite], b[finite]
            sums = np.array([(a * a).sum(), (a * b).sum(), (b * b).sum()])
            self.products[name] = self.products.get(name, np.zeros(3)) + sums
            self.furthest = max(self.furthest, float(np.abs(a - b).max(initial=0.0)))
            self.largest = max(self.largest, float(np.abs(a).max(initial=0.0)))
            self.rows += len(a)
            self.agreeing += int((a.argmax(axis=1) == b.argmax(axis=1)).sum()) if a.shape[1] else len(a)

    @property
    def cosine(self) -> float:
        """The least cosine between all of an output's values."""
        norms = {n: float(np.sqrt(s[0] * s[2])) for n, s in self.products.items()}
        return min((float(s[1]) / norms[n] for n, s in self.products.items() if norms[n] > 0), default=1.0)

    def check(self, source: str | Path) -> None:
        """Raise SourceError where the source's own outputs and those of the graph as read have little in common."""
        if self.rows and self.cosine < _LEAST_COSINE:
            raise SourceError(
                f"{source}: its own outputs have a cosine of {self.cosine:.2f} to those without {' and '.join(self.left_out)}: it is "
                "damaged, or its scales are of another model's: quantize it again, or give the float32 model"
            )

    def words(self) -> str:
        """Return what was left out, and how far the source itself is, to be said after the name of the runtime."""
        without = f", on the {self.kind} without {' and '.join(self.left_out)}"
        return f"{without}; {self._how_far()}" if self.rows or not self.runs else without

    def sentence(self) -> str:
        """Return what the artifact leaves out, and how far the source itself is, for people who export it."""
        verb = "is" if len(self.left_out) == 1 else "are"
        return f"{' and '.join(self.left_out)} {verb} left out; {self._how_far()}"

    def _how_far(self) -> str:
        if not self.runs:
            return f"the {self.kind} itself needs operators that ONNX Runtime does not have for CPUs"
        if not self.rows:
            return f"how far the {self.kind} itself is from that was not measured"
        return (
            f"the {self.kind} itself differs from that by up to {self.furthest:.2g} where its largest output is "
            f"{self.largest:.2g} (cosine {self.cosine:.4f}, the same largest entry in {100 * self.agreeing / self.rows:.1f} % of rows)"
        )
