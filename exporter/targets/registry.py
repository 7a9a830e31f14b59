"""Set up the target that a recipe asks for."""

from typing import Literal

from ...errors import UsageError
from ...kernels.cpu import library_path
from ..recipe.passes import QuantizeSpec
from ..recipe.recipe import Recipe
from .base import Target


def kernels_of(recipe: Recipe) -> Literal["auto", "stock", "custom"]:
    """Whose operators a recipe's bundle for CPUs has: "auto" is stock where no pass wants ours, or where they are not built."""
    if recipe.target != "ort":
        return "stock"
    wanted = any(isinstance(p, QuantizeSpec) and p.activations in ("auto", "per-token") for p in recipe.passes)
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
            from .ort.target import OrtTarget

            return OrtTarget(kernels=kernels_of(recipe))
        case "ort-mobile":
            if recipe.dtype == "bf16":
                raise UsageError("target ort-mobile: bf16 has no kernels there; choose fp32 or fp16")
            from .phones.ort_mobile import OrtMobileTarget

            return OrtMobileTarget(precision=recipe.dtype, optimized=recipe.graph_optimization)
        case "web":
            from .web.target import web_target

            return web_target(recipe)
        case "executorch" | "litert" if recipe.dtype != "fp32":
            raise UsageError(
                f"target {recipe.target}: {recipe.dtype} is for GPUs; leave dtype out, or quantize to int8"
            )
        case "executorch":
            from .phones.executorch import ExecuTorchTarget

            return ExecuTorchTarget()
        case "litert":
            from .phones.litert import LiteRtTarget

            return LiteRtTarget()
        case "coreml":
            if recipe.verify != "module":
                raise UsageError(
                    "target coreml converts only: its package runs on Apple's systems alone, so that it cannot be checked here. "
                    "Say `verify: module` (--verify module) to have the module checked that it is converted from"
                )
            if recipe.dtype == "bf16":
                raise UsageError("target coreml: bf16 has no place there; choose fp32 or fp16")
            from .phones.coreml import CoreMLTarget

            return CoreMLTarget(recipe.dtype)
        case "ort-cuda" | "ort-tensorrt":
            from .tensorrt.ort_gpu import OrtGpuTarget

            return OrtGpuTarget(recipe.target, recipe.dtype)
        case "tensorrt" | "tensorrt-rtx":
            from .tensorrt.target import engine_target

            return engine_target(recipe)
