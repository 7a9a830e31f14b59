"""ONNX Runtime on NVIDIA GPUs: the typed graph for its CUDA or its TensorRT execution provider."""

from dataclasses import dataclass
from pathlib import Path
from typing import Any

import onnx_ir as ir
import onnxruntime

from ....engine.build import this_gpu
from ....manifest import Manifest
from ....runners.base import Runner
from ....runners.ort import OrtRunner
from ...graph.anatomy import Anatomy
from ...recipe.recipe import Recipe
from ..base import TargetSpec, Text
from .lower import SPEC, lower
from .plan import MODEL_FILE, WEIGHTS_FILE
from .target import NUMPY_NAMES
from .typed_runner import TypedRunner

CUDA = "CUDAExecutionProvider"
TENSORRT = "TensorrtExecutionProvider"


@dataclass(frozen=True)
class OrtGpuTarget:
    """Targets `ort-cuda` and `ort-tensorrt`. The graph is written anywhere, and checked on the provider where there is one."""

    name: str
    precision: str
    spec: TargetSpec = SPEC
    artifact: str = MODEL_FILE

    @property
    def dtype(self) -> str:
        return NUMPY_NAMES[self.precision]

    @property
    def provider(self) -> str:
        return CUDA if self.name == "ort-cuda" else TENSORRT

    def available(self) -> str | None:
        return None

    def lower(self, model: ir.Model, anatomy: Anatomy, text: Text) -> dict[str, int]:
        return lower(model, anatomy, self.precision, (b.feeds for b in text.batches)).as_dict()

    def build(self, model: ir.Model, directory: Path, text: Text) -> None:
        ir.save(model, directory / self.artifact, external_data=WEIGHTS_FILE)

    def files(self, directory: Path) -> list[Path]:
        names = (self.artifact, WEIGHTS_FILE)
        return [p for name in names if (p := directory / name).is_file()]

    def options(self, *, regroup: bool) -> dict[str, Any]:
        own: dict[str, str] = {}
        if self.provider == TENSORRT:
            own = {"trt_engine_cache_enable": "1", "trt_timing_cache_enable": "1"}
            own |= {"fp16": {"trt_fp16_enable": "1"}, "bf16": {"trt_bf16_enable": "1"}}.get(self.precision, {})
        plain = [CUDA, {"use_tf32": "0"}]  # on by default: float32 matmuls would be rounded to 10 bits
        providers = [[TENSORRT, own], plain] if self.provider == TENSORRT else [plain]
        return {"graph_optimization_level": "all", "regroup": regroup, "providers": providers}

    def open(self, directory: Path, options: dict[str, Any], threads: int | None = None) -> Runner:
        if self._here():
            return OrtRunner(directory / self.artifact, options, threads, options["providers"])
        return TypedRunner(directory / self.artifact)

    def record(self, directory: Path) -> dict[str, Any]:
        what = TypedRunner.what.replace("the engine", self.provider)
        return {"dtype": self.precision, "checked": self.provider if self._here() else what}

    def finish(self, directory: Path, manifest: Manifest) -> None:
        pass

    def _here(self) -> bool:
        return self.provider in onnxruntime.get_available_providers() and this_gpu() is not None


def ort_gpu_target(recipe: Recipe) -> OrtGpuTarget:
    """Return the target that a recipe describes."""
    return OrtGpuTarget(recipe.target, recipe.dtype)
