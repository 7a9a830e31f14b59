"""What a target likes: the facts passes need to know about it, and no more."""

from collections.abc import Sequence
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path
from typing import Any, Protocol

import numpy as np
import onnx_ir as ir

from ...calibration.batches import Batch, make_batches
from ...errors import TargetError
from ...runners.base import Runner
from ...text import TextEncoder
from ..graph.anatomy import Anatomy


@dataclass(frozen=True)
class TargetSpec:
    """`neuron_multiple` and `rank_multiple`: widths between two multiples cost as much as the next one up.

    `signed_values`: rounded values are int8 around zero point 0; else uint8 with a zero point. `rounds_tokens`: the runtime
    itself finds a range for each token as it comes. `int8_tables`: embedding tables may be looked up in whole numbers.
    """

    name: str
    neuron_multiple: int
    rank_multiple: int
    signed_values: bool = False
    rounds_tokens: bool = False
    int8_tables: bool = True

    def grown(self, width: int, most: int) -> int:
        """The width at the next multiple, at most `most`: a cut between multiples would save nothing more."""
        step = self.neuron_multiple
        return min(most, -(-width // step) * step)


@dataclass(frozen=True)
class Text:
    """Text like production's: what a target checks ranges on, and learns lengths from. Tokenized where it is asked for."""

    encoder: TextEncoder
    lines: Sequence[str]
    choices: int = 0
    most_tokens: int = 8192

    @property
    def longest(self) -> int:
        """Tokens of the longest sequence the model takes."""
        return self.encoder.info.max_length

    @cached_property
    def batches(self) -> list[Batch]:
        """Batches of up to `most_tokens` tokens in all; `[texts, choices, sequence]` where the model takes choices."""
        made = make_batches(self.encoder, self.lines, longest=self.longest, most_tokens=self.most_tokens)
        if not self.choices:
            return made
        return [Batch({k: np.stack([v] * self.choices, axis=1) for k, v in b.feeds.items()}, b.rows) for b in made]

    @cached_property
    def lengths(self) -> np.ndarray:
        """Tokens of each text, int64 `[texts]`."""
        return np.array([len(e.ids) for e in self.encoder.encode(self.lines)], np.int64)


class Target(Protocol):
    """Writes canonical models its own way, and opens what it wrote.

    `artifact` is the file in a bundle that a runner opens; `dtype` names the tolerance that parity is judged by, see
    `verify.TOLERANCE`.
    """

    @property
    def spec(self) -> TargetSpec: ...

    @property
    def artifact(self) -> str: ...

    @property
    def dtype(self) -> str: ...

    def available(self) -> str | None:
        """Why nothing can be built here, and what to do; None where it can."""

    def lower(self, model: ir.Model, anatomy: Anatomy, text: Text) -> dict[str, int]:
        """Lowers a canonical model in place; returns how many of each kind of operator were made.

        Raises TargetError naming the node where an expected fusion did not happen.
        """

    def build(self, model: ir.Model, directory: Path, text: Text) -> None:
        """Writes a lowered model and whatever is made from it to `directory`."""

    def files(self, directory: Path) -> list[Path]:
        """The files of a built artifact: what a size gate counts."""

    def options(self, *, regroup: bool) -> dict[str, Any]:
        """What the bundle stores for its runner. `regroup`: whether answers do not depend on how far a batch is padded."""

    def open(self, directory: Path, options: dict[str, Any], threads: int | None = None) -> Runner:
        """Opens a built artifact as a bundle would; or, where this machine cannot run it, what it was built from."""

    def record(self, directory: Path) -> dict[str, Any] | None:
        """What the manifest says about how the artifact was built and checked; None where there is nothing to say."""


def check_available(target: Target) -> None:
    """TargetError where the target cannot be built on this machine."""
    reason = target.available()
    if reason is not None:
        raise TargetError(reason)
