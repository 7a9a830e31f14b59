"""Define what every target has: the facts that passes need, the text it is built with, and its methods."""

from collections.abc import Sequence
from dataclasses import dataclass
from functools import cached_property
from importlib.util import find_spec
from pathlib import Path
from typing import Any, Literal, Protocol

import numpy as np
import onnx_ir as ir

from ...calibration.batches import Batch, make_batches
from ...errors import TargetError
from ...manifest import Manifest
from ...runners.base import Runner
from ...text import Text as TextOrPair
from ...text import TextEncoder
from ..graph.anatomy import Anatomy

BFLOAT16_WEIGHTS = "bfloat16-weights"
"""The `dtype` of a target that rounds weights, and what they are multiplied by, to bfloat16, and nothing else."""


@dataclass(frozen=True)
class TargetSpec:
    """What passes need to know about a target.

    `neuron_multiple` and `rank_multiple`: a width between two multiples takes as long as the next multiple. `signed_activations`:
    quantized activations are int8 with zero point 0, else uint8 with a zero point. `quantizes_tokens`: the runtime itself quantizes
    activations per token. `int8_embeddings`: embeddings may be stored in int8. `int8_recurrent`: weights of LSTMs, too, which the runtime
    makes floats of once, when it loads them. `integers`: which integers of weights the target can store beside float activations: any,
    those without zero points, or none.
    """

    name: str
    neuron_multiple: int
    rank_multiple: int
    signed_activations: bool = False
    quantizes_tokens: bool = False
    int8_embeddings: bool = True
    int8_recurrent: bool = False
    integers: Literal["any", "symmetric", "none"] = "any"

    def grown(self, width: int, most: int) -> int:
        """Return the next multiple at or above `width`, at most `most`: a width between multiples saves nothing."""
        step = self.neuron_multiple
        return min(most, -(-width // step) * step)


@dataclass(frozen=True)
class Text:
    """Text like production's: a target observes ranges and lengths on it. It is tokenized on first use.

    `choices`: answers to each text where the task is multiple choice, else 0. `most_tokens`: how many tokens `batches` holds.
    """

    encoder: TextEncoder
    lines: Sequence[TextOrPair]
    choices: int = 0
    most_tokens: int = 8192

    @property
    def longest(self) -> int:
        """The longest sequence that the model takes, in tokens."""
        return self.encoder.info.max_length

    @cached_property
    def batches(self) -> list[Batch]:
        """Batches of at most `most_tokens` tokens together; `[texts, choices, sequence]` where the model takes choices."""
        batches = make_batches(self.encoder, self.lines, longest=self.longest, most_tokens=self.most_tokens)
        if not self.choices:
            return batches
        return [Batch({k: np.stack([v] * self.choices, axis=1) for k, v in b.feeds.items()}, b.rows) for b in batches]

    @cached_property
    def lengths(self) -> np.ndarray:
        """How many tokens each text has, int64 `[texts]`."""
        return np.array([len(e.ids) for e in self.encoder.encode(self.lines)], np.int64)


class Target(Protocol):
    """Lower, write and open models for one runtime. `TARGETS` names the function that makes a target from a recipe.

    `artifact` is the file in a bundle that a runner opens. `dtype` names the tolerance of parity, see `check.parity.TOLERANCE`.
    """

    @property
    def spec(self) -> TargetSpec: ...

    @property
    def artifact(self) -> str: ...

    @property
    def dtype(self) -> str: ...

    def available(self) -> str | None:
        """Return why nothing can be built here, and what to do; None where it can. Never raises."""

    def lower(self, model: ir.Model, anatomy: Anatomy, text: Text) -> dict[str, int]:
        """Lower a canonical model in place; return how many of each kind of operator were made.

        Raise TargetError naming the node where an expected fusion did not happen.
        """

    def build(self, model: ir.Model, directory: Path, text: Text) -> None:
        """Write a lowered model, and whatever is made from it, to `directory`."""

    def files(self, directory: Path) -> list[Path]:
        """Return the files of a built artifact: what a size gate counts."""

    def options(self, *, regroup: bool) -> dict[str, Any]:
        """Return what the bundle stores for its runner. `regroup`: outputs do not depend on how far a batch is padded."""

    def open(self, directory: Path, options: dict[str, Any], threads: int | None = None) -> Runner:
        """Open a built artifact as a bundle would; where this machine cannot run it, open what it was built from."""

    def record(self, directory: Path) -> dict[str, Any] | None:
        """Return what the manifest says about how the artifact was built and checked; None where there is nothing to say."""

    def finish(self, directory: Path, manifest: Manifest) -> None:
        """Write what else the bundle of a verified artifact holds, and note it in the manifest."""


def installed(*packages: str) -> bool:
    """Return whether Python would find all of these packages."""
    try:
        return all(find_spec(name) is not None for name in packages)
    except (ImportError, ValueError):  # a module of that name that has no spec
        return False


def check_available(target: Target) -> None:
    """Raise TargetError with the reason where the target cannot be built on this machine."""
    reason = target.available()
    if reason is not None:
        raise TargetError(reason)
