"""Open an artifact in the runtime that it was built for."""

from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import Any

from ..errors import TargetError
from .base import Runner
from .ort import OrtRunner

ONNXRUNTIME = "onnxruntime"


def open_artifact(
    runner: str, artifact: Path, options: Mapping[str, Any], threads: int | None, providers: Sequence[str] | None
) -> Runner:
    """Open an artifact in the runner that its manifest names. Raise TargetError where this machine cannot run it.

    `providers` are ONNX Runtime's: where given, its graph is run instead.
    """
    if runner == ONNXRUNTIME or providers is not None:
        own = options.get("providers", ("CPUExecutionProvider",))
        return OrtRunner(graph_of(artifact), options, threads, own if providers is None else providers)
    opener = _OPENERS.get(runner)
    if opener is None:
        known = ", ".join((ONNXRUNTIME, *_OPENERS))
        raise TargetError(f"{artifact}: made for the runner {runner!r}; this Headway has {known}: install a newer one")
    return opener(artifact, options, threads)


def graph_of(artifact: Path) -> Path:
    """Return the file that ONNX Runtime reads: the graph of an engine lies beside it."""
    return artifact if artifact.suffix == ".ort" else artifact.with_suffix(".onnx")


def _open_tensorrt(artifact: Path, options: Mapping[str, Any], threads: int | None) -> Runner:
    from .tensorrt import open_engine

    return open_engine(artifact, options)


def _open_executorch(artifact: Path, options: Mapping[str, Any], threads: int | None) -> Runner:
    from .rows import ExecuTorchRunner

    return ExecuTorchRunner(artifact, options, threads)


def _open_litert(artifact: Path, options: Mapping[str, Any], threads: int | None) -> Runner:
    from .rows import LiteRtRunner

    return LiteRtRunner(artifact, threads)


def _open_coreml(artifact: Path, options: Mapping[str, Any], threads: int | None) -> Runner:
    raise TargetError(f"{artifact}: a Core ML package runs on Apple's systems alone, in their own runtime")


_OPENERS: dict[str, Callable[[Path, Mapping[str, Any], int | None], Runner]] = {
    "tensorrt": _open_tensorrt,
    "executorch": _open_executorch,
    "litert": _open_litert,
    "coreml": _open_coreml,
}
