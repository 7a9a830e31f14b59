"""What a target is, and which one a recipe asks for."""

from collections.abc import Sequence
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path
from typing import Any, Literal, Protocol

import numpy as np
import onnx_ir as ir

from ...calibration.batches import Batch, make_batches
from ...kernels.cpu import library_path
from ..bundle import TextEncoder
from ..errors import UsageError
from ..graph.anatomy import Anatomy
from ..recipe import Quantize, Recipe
from ..runner import Runner
from .spec import TargetSpec


@dataclass(frozen=True)
class Text:
    """Text like production's: what a target checks ranges on, and learns lengths from. Tokenised where it is asked for."""

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


def kernels_of(recipe: Recipe) -> Literal["auto", "stock", "custom"]:
    """Whose operators a recipe's bundle for CPUs has: "auto" is stock where no pass wants ours, or where they are not built."""
    if recipe.target != "ort":
        return "stock"
    wanted = any(isinstance(p, Quantize) and p.activations in ("auto", "per-token") for p in recipe.passes)
    return "stock" if recipe.kernels == "auto" and not (wanted and library_path() is not None) else recipe.kernels


def target_of(recipe: Recipe) -> Target:
    """The target that a recipe asks for, set up as it says. UsageError where its options do not go together."""
    if recipe.verify == "module" and recipe.target != "coreml":
        raise UsageError(f"target {recipe.target}: its artifact itself is checked; leave verify out")
    if recipe.target == "tensorrt-rtx" and recipe.kernels == "custom":
        raise UsageError(
            "target tensorrt-rtx: TensorRT-RTX has no plugins; leave --kernels out, or use the target tensorrt"
        )
    if recipe.target not in ("ort", "tensorrt") and recipe.kernels == "custom":
        raise UsageError(f"target {recipe.target}: its graph has plain operators alone so far; leave --kernels out")
    match recipe.target:
        case "ort":
            if recipe.dtype != "fp32":
                raise UsageError(f"target ort: {recipe.dtype} is for GPUs; leave dtype out, or choose another target")
            from .ort import OrtTarget

            return OrtTarget(kernels=kernels_of(recipe))
        case "ort-mobile":
            if recipe.dtype == "bf16":
                raise UsageError("target ort-mobile: bf16 has no kernels there; choose fp32 or fp16")
            from .ort_mobile import OrtMobileTarget

            return OrtMobileTarget(precision=recipe.dtype, optimized=recipe.graph_optimization)
        case "web":
            from .web import web_target

            return web_target(recipe)
        case "executorch":
            if recipe.dtype != "fp32":
                raise UsageError(f"target executorch: {recipe.dtype} is for GPUs; leave dtype out, or quantise to int8")
            from .executorch import ExecuTorchTarget

            return ExecuTorchTarget()
        case "litert":
            if recipe.dtype != "fp32":
                raise UsageError(f"target litert: {recipe.dtype} is for GPUs; leave dtype out, or quantise to int8")
            from .litert import LiteRtTarget

            return LiteRtTarget()
        case "coreml":
            if recipe.verify != "module":
                raise UsageError(
                    "target coreml converts only: its package runs on Apple's systems alone, so that it cannot be checked here. "
                    "Say `verify: module` (--verify module) to have the module checked that it is converted from"
                )
            if recipe.dtype == "bf16":
                raise UsageError("target coreml: bf16 has no place there; choose fp32 or fp16")
            from .coreml import CoreMLTarget

            return CoreMLTarget(recipe.dtype)
        case "ort-cuda" | "ort-tensorrt":
            from .ort_gpu import OrtGpuTarget

            return OrtGpuTarget(recipe.target, recipe.dtype)
        case "tensorrt" | "tensorrt-rtx":
            from .tensorrt import engine_target

            return engine_target(recipe)
