"""Open an artifact in the runtime that it was built for."""

from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import Any

from ..engine.record import PLAN_FILE, RECORD_SUFFIX, read_plan, read_record
from ..errors import SourceError, TargetError
from ..inside import Folder, check_name
from .base import Runner
from .external_data import external_files
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


def opened_files(runner: str, directory: Path, artifact: str, *, providers: bool) -> list[str]:
    """Return the names of the files that `open_artifact` opens for an artifact, those that its model refers to among them.

    `providers`: whether ONNX Runtime's were given.
    """
    if runner != ONNXRUNTIME and not providers:
        listed = _OPENED.get(runner)
        return [artifact] if listed is None else listed(directory, artifact)
    graph = graph_of(Path(artifact)).as_posix()
    return [graph, *_weights_of(directory, graph)]


def _weights_of(directory: Path, graph: str) -> list[str]:
    """Return the names of the files in which a model keeps its weights. SourceError for one outside the bundle."""
    path = Folder(directory).file(graph)
    if path.suffix != ".onnx":
        return []
    names = []
    for location in sorted(external_files(path)):
        try:
            check_name(location)
        except ValueError as error:
            raise SourceError(f"{path}: its weights: {error}: get the bundle again from who made it") from error
        names.append((Path(graph).parent / location).as_posix())
    return names


def _of_engine(directory: Path, artifact: str) -> list[str]:
    """Return the names of an engine and of what it is opened with. One that was not built yet has its plan alone."""
    engine = Path(artifact)
    names = [engine.with_name(PLAN_FILE).as_posix()]
    if not (directory / artifact).exists():
        return names
    names.insert(0, artifact)
    record = engine.with_suffix(RECORD_SUFFIX).as_posix()
    if (directory / record).exists():  # trtexec writes none
        names.append(record)
    settings = read_plan(directory / names[1])["settings"] | (read_record(directory / engine) or {})
    if settings["stripped"]:  # the engine gets its weights from the graph
        graph = engine.with_name("model.onnx").as_posix()
        names += [graph, *_weights_of(directory, graph)]
    return names


def _of_package(directory: Path, artifact: str) -> list[str]:
    """Return the names of all files of a package, which is a directory; links are among them, wherever they lead."""
    package = directory / artifact
    if package.is_symlink() or not package.is_dir():
        return [artifact]
    files = (path for path in package.rglob("*") if path.is_symlink() or not path.is_dir())
    return sorted(path.relative_to(directory).as_posix() for path in files)


_OPENED: dict[str, Callable[[Path, str], list[str]]] = {
    "tensorrt": _of_engine,
    "executorch": lambda _, artifact: [artifact, f"{artifact}.json"],
    "litert": lambda _, artifact: [artifact, f"{artifact}.json"],
    "coreml": _of_package,
}
"""By runner, what it opens where that is more than the artifact."""


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
