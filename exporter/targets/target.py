"""What a target is, and which one a recipe asks for."""

from pathlib import Path
from typing import Any, Protocol

import onnx_ir as ir

from ..graph.anatomy import Anatomy
from ..recipe import Recipe
from ..runner import Runner
from .spec import TargetSpec


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

    def lower(self, model: ir.Model, anatomy: Anatomy) -> dict[str, int]:
        """Lowers a canonical model in place; returns how many of each kind of operator were made.

        Raises TargetError naming the node where an expected fusion did not happen.
        """

    def build(self, model: ir.Model, directory: Path) -> None:
        """Writes a lowered model and whatever is made from it to `directory`."""

    def files(self, directory: Path) -> list[Path]:
        """The files of a built artifact: what a size gate counts."""

    def options(self, *, regroup: bool) -> dict[str, Any]:
        """What the bundle stores for its runner. `regroup`: whether answers do not depend on how far a batch is padded."""

    def open(self, directory: Path, options: dict[str, Any], threads: int | None = None) -> Runner:
        """Opens a built artifact as a bundle would."""


def target_of(recipe: Recipe) -> Target:
    """The target that a recipe asks for, set up as it says."""
    match recipe.target:
        case "ort":
            from .ort import OrtTarget

            return OrtTarget(kernels=recipe.kernels)
