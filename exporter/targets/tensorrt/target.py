"""TensorRT and TensorRT-RTX: the typed graph, how to build it, and the engine."""

from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import onnx_ir as ir

from ....engine.build import BuildSettings, build_engine, check_settings, declare_kernels, missing, this_gpu
from ....engine.profiles import Profile, check_profiles, make_profiles
from ....engine.record import ENGINE_FILE, read_record
from ....errors import TargetError, UsageError
from ....manifest import Manifest
from ....runners.base import Runner
from ...graph.anatomy import Anatomy
from ...passes.zeros import any_two_of_four
from ...recipe.recipe import Recipe
from ..base import TargetSpec, Text
from .lower import SPEC, lower
from .plan import MODEL_FILE, WEIGHTS_FILE, write_plan
from .plugin_nodes import OwnKernels
from .typed_runner import TypedRunner

LIBRARIES = {"tensorrt": "tensorrt", "tensorrt-rtx": "tensorrt_rtx"}
NUMPY_NAMES = {"fp32": "float32", "fp16": "float16", "bf16": "bfloat16"}


@dataclass(frozen=True)
class EngineTarget:
    """Targets `tensorrt` and `tensorrt-rtx`. With `plan` the graph and how to build it are written, and no engine."""

    name: str
    precision: str
    settings: BuildSettings
    plan: bool = False
    max_batch: int = 32
    profiles: tuple[Profile, ...] = ()
    spec: TargetSpec = SPEC
    artifact: str = ENGINE_FILE

    @property
    def library(self) -> str:
        return LIBRARIES[self.name]

    @property
    def dtype(self) -> str:
        return NUMPY_NAMES[self.precision]

    def available(self) -> str | None:
        try:
            check_settings(self.library, self.settings)
            if self.plan:
                return None
            reason = missing(self.library)
            if reason is not None:
                return (
                    f"{reason}; or add `plan: true` (--plan), which needs no library here, and build on the GPU machine"
                )
            if self.library == "tensorrt" and this_gpu() is None:
                return "TensorRT builds on the GPU it builds for, and this machine has none: add `plan: true` (--plan) and build there"
            if self.settings.kernels:
                declare_kernels()
        except TargetError as error:
            return str(error)
        if self.library == "tensorrt_rtx" and not self.settings.gpus:
            return "name the `gpus` to build for (--gpu sm_89,sm_120)"
        return None

    def lower(self, model: ir.Model, anatomy: Anatomy, text: Text) -> dict[str, int]:
        kernels = OwnKernels(text.longest) if self.settings.kernels else None
        return lower(model, anatomy, self.precision, (b.feeds for b in text.batches), kernels=kernels).as_dict()

    def build(self, model: ir.Model, directory: Path, text: Text) -> None:
        if any(len(v.shape or ()) != 2 for v in model.graph.inputs):
            raise UsageError(
                f"target {self.name}: models whose inputs are not [batch, sequence] cannot be built yet; use --target ort-cuda"
            )
        profiles = list(self.profiles) or make_profiles(text.lengths, text.longest, batch=self.max_batch)
        check_profiles(profiles, text.lengths, text.longest)
        ir.save(model, directory / MODEL_FILE, external_data=WEIGHTS_FILE)
        settings = replace(self.settings, sparse=self.name == "tensorrt" and any_two_of_four(model))
        write_plan(model, directory, self.library, settings, profiles)
        if not self.plan:
            build_engine(self.library, directory / MODEL_FILE, profiles, settings, directory / ENGINE_FILE)

    def files(self, directory: Path) -> list[Path]:
        names = (ENGINE_FILE,) if not self.plan else (MODEL_FILE, WEIGHTS_FILE)
        return [p for name in names if (p := directory / name).is_file()]

    def options(self, *, regroup: bool) -> dict[str, Any]:
        return {"regroup": regroup}

    def open(self, directory: Path, options: dict[str, Any], threads: int | None = None) -> Runner:
        if not self.plan and this_gpu() is not None and missing(self.library) is None:
            from ....runners.tensorrt import open_engine

            return open_engine(directory / ENGINE_FILE, options)
        return TypedRunner(directory / MODEL_FILE)

    def record(self, directory: Path) -> dict[str, Any]:
        built = read_record(directory / ENGINE_FILE) or {}
        ran = bool(built) and this_gpu() is not None
        what = TypedRunner.what + ("; plugin nodes were computed by their reference" if self.settings.kernels else "")
        return {"dtype": self.precision, "checked": "the engine" if ran else what, **built}

    def finish(self, directory: Path, manifest: Manifest) -> None:
        pass


def engine_target(recipe: Recipe) -> EngineTarget:
    """Return the target that a recipe describes."""
    options = recipe.engine
    settings = BuildSettings(
        tuple(options.gpus),
        options.version_compatible,
        options.hardware,
        options.stripped,
        options.level,
        options.timing_cache,
        kernels=recipe.kernels == "custom",
    )
    profiles = tuple(Profile(p.min, p.opt, p.max) for p in options.profiles)
    return EngineTarget(recipe.target, recipe.dtype, settings, options.plan, options.max_batch, profiles)
