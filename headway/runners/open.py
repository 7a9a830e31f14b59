"""Open an artifact in the runtime that it was built for."""

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from ..errors import TargetError
from .base import Runner
from .ort import OrtRunner


def open_artifact(
    target: str, artifact: Path, options: Mapping[str, Any], threads: int | None, providers: Sequence[str] | None
) -> Runner:
    """Opens what a target built. TargetError where this machine cannot run it."""
    if target in ("tensorrt", "tensorrt-rtx") and providers is None:
        from .tensorrt import open_engine

        return open_engine(artifact, options)
    if target == "executorch" and providers is None:
        from .rows import ExecuTorchRunner

        return ExecuTorchRunner(artifact, options, threads)
    if target == "litert" and providers is None:
        from .rows import LiteRtRunner

        return LiteRtRunner(artifact, threads)
    if target == "coreml" and providers is None:
        raise TargetError(f"{artifact}: a Core ML package runs on Apple's systems alone, in their own runtime")
    own = options.get("providers", ("CPUExecutionProvider",))
    return OrtRunner(graph_of(artifact), options, threads, own if providers is None else providers)


def graph_of(artifact: Path) -> Path:
    """The file that ONNX Runtime reads: an engine's graph lies beside it."""
    return artifact if artifact.suffix == ".ort" else artifact.with_suffix(".onnx")
