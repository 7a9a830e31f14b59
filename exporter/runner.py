"""Runs an ONNX Runtime artifact on batches of token ids. Needs numpy and onnxruntime, nothing else."""

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any, Protocol

import numpy as np
import onnxruntime

from ..kernels.cpu import MISSING, library_path
from .errors import TargetError, UsageError
from .processor import X64_PRECISION, adds_bytes_exactly

GROUP_COST = 16
"""What one more run costs, in tokens of work: below it, splitting a batch by length gains nothing."""


class Runner(Protocol):
    """An opened artifact. Inputs and outputs are numpy arrays by name."""

    input_names: tuple[str, ...]
    output_names: tuple[str, ...]

    def run(self, feeds: Mapping[str, np.ndarray]) -> dict[str, np.ndarray]: ...


def open_artifact(
    target: str, artifact: Path, options: Mapping[str, Any], threads: int | None, providers: Sequence[str] | None
) -> Runner:
    """Opens what a target built. TargetError where this machine cannot run it."""
    if target in ("tensorrt", "tensorrt-rtx") and providers is None:
        from .engine import open_engine

        return open_engine(artifact, options)
    if target == "executorch" and providers is None:
        from .mobile_runners import ExecuTorchRunner

        return ExecuTorchRunner(artifact, options, threads)
    if target == "litert" and providers is None:
        from .mobile_runners import LiteRtRunner

        return LiteRtRunner(artifact, threads)
    if target == "coreml" and providers is None:
        raise TargetError(f"{artifact}: a Core ML package runs on Apple's systems alone, in their own runtime")
    own = options.get("providers", ("CPUExecutionProvider",))
    model = artifact if artifact.suffix == ".ort" else artifact.with_suffix(".onnx")
    return OrtRunner(model, options, threads, own if providers is None else providers)


def session_options(model: Path, options: Mapping[str, Any], threads: int | None) -> onnxruntime.SessionOptions:
    """What a bundle's own options ask of ONNX Runtime. TargetError where `model` needs Headway's kernels and they are not built."""
    settings = onnxruntime.SessionOptions()
    settings.log_severity_level = 3
    if threads is not None:
        settings.intra_op_num_threads = threads
    levels = onnxruntime.GraphOptimizationLevel
    settings.graph_optimization_level = {"all": levels.ORT_ENABLE_ALL, "none": levels.ORT_DISABLE_ALL}[
        options.get("graph_optimization_level", "all")
    ]
    for key, value in options.get("config", {}).items():
        if key == X64_PRECISION and adds_bytes_exactly():
            continue
        settings.add_session_config_entry(key, str(value))
    if options.get("kernels"):
        library = library_path()
        if library is None:
            raise TargetError(f"{model}: {MISSING}")
        settings.register_custom_ops_library(str(library))
    return settings


class OrtRunner:
    """One ONNX Runtime session. `threads` is the size of its pool; None leaves it to the runtime.

    With the option `regroup`, a batch of mixed lengths is run as a few batches of similar lengths, since tokens of padding cost as
    much as real ones. What outputs hold at padded positions means nothing.
    """

    def __init__(
        self,
        model: Path,
        options: Mapping[str, Any] | None = None,
        threads: int | None = None,
        providers: Sequence[str | tuple[str, Mapping[str, Any]]] = ("CPUExecutionProvider",),
    ):
        check_providers(model, providers)
        chosen = dict(options or {})
        settings = session_options(model, chosen, threads)
        try:
            self.session = onnxruntime.InferenceSession(
                str(model),
                settings,
                providers=[p if isinstance(p, str) else (p[0], dict(p[1])) for p in providers],
                disabled_optimizers=list(chosen.get("disabled_optimizers", [])),
            )
        except Exception as error:  # onnxruntime raises its own unrelated exception types
            raise TargetError(f"{model}: ONNX Runtime {onnxruntime.__version__} cannot load it: {error}") from error
        check_loaded(model, providers, self.session.get_providers())
        self.input_names = tuple(i.name for i in self.session.get_inputs())
        self._regroup = bool(chosen.get("regroup", False))
        outputs = self.session.get_outputs()
        self.output_names = tuple(o.name for o in outputs)
        self._sequence_axis = [list(o.shape).index("sequence") if "sequence" in o.shape else None for o in outputs]

    def run(self, feeds: Mapping[str, np.ndarray]) -> dict[str, np.ndarray]:
        """Inputs int64 `[batch, sequence]` → outputs by name, float32."""
        wanted = {name: feeds[name] for name in self.input_names}
        mask = feeds.get("attention_mask")
        if not self._regroup or mask is None or mask.ndim != 2 or mask.all():
            return self._run(wanted)
        lengths = real_lengths(mask)
        groups = group_by_length(lengths)
        if len(groups) == 1 and lengths.max() == mask.shape[1]:
            return self._run(wanted)
        results: dict[str, np.ndarray] = {}
        for rows in groups:
            longest = int(lengths[rows].max())
            part = self._run({name: np.ascontiguousarray(array[rows, :longest]) for name, array in wanted.items()})
            for (name, array), axis in zip(part.items(), self._sequence_axis, strict=True):
                put_rows(results, name, array, rows, mask.shape, axis)
        return results

    def _run(self, feeds: Mapping[str, np.ndarray]) -> dict[str, np.ndarray]:
        return dict(zip(self.output_names, self.session.run(None, feeds), strict=True))


def check_providers(model: Path, providers: Sequence[str | tuple[str, Mapping[str, Any]]]) -> None:
    """TargetError where the first provider is not in this build: the runtime would silently take another."""
    wanted, known = _first(providers), onnxruntime.get_available_providers()
    if wanted not in known:
        raise TargetError(
            f"{model} runs on {wanted}, which this ONNX Runtime {onnxruntime.__version__} does not have ({', '.join(known)}): "
            'pip install onnxruntime-gpu, or open it with providers=["CPUExecutionProvider"]'
        )


def check_loaded(model: Path, providers: Sequence[str | tuple[str, Mapping[str, Any]]], loaded: Sequence[str]) -> None:
    """TargetError where the first provider is in the build, but a session went on without it: its libraries or GPU are missing."""
    wanted = _first(providers)
    if wanted not in loaded:
        raise TargetError(
            f"{model} runs on {wanted}, which ONNX Runtime {onnxruntime.__version__} could not load here ({', '.join(loaded)} was "
            "taken instead): it needs a GPU, a driver and CUDA's libraries of the versions that onnxruntime-gpu was built for, or open "
            'it with providers=["CPUExecutionProvider"]'
        )


def _first(providers: Sequence[str | tuple[str, Mapping[str, Any]]]) -> str:
    return providers[0] if isinstance(providers[0], str) else providers[0][0]


def put_rows(
    results: dict[str, np.ndarray],
    name: str,
    array: np.ndarray,
    rows: np.ndarray,
    shape: tuple[int, ...],
    axis: int | None,
) -> None:
    """Puts a part's answers where its `rows` stand in a batch of `shape` [batch, sequence]; padding is zeros.

    `axis` is the output's sequence axis, None where it has none.
    """
    if name not in results:
        whole = [shape[0], *array.shape[1:]]
        if axis is not None:
            whole[axis] = shape[1]
        results[name] = np.zeros(whole, array.dtype)
    if axis is None:
        results[name][rows] = array
    else:
        results[name][rows, : array.shape[1]] = array


def real_lengths(mask: np.ndarray) -> np.ndarray:
    """Position of the last real token of each row, plus one: `[batch]`."""
    reversed_first = np.argmax(mask[:, ::-1] != 0, axis=1)
    return np.where(mask.any(axis=1), mask.shape[1] - reversed_first, 1)


def check_mask(mask: np.ndarray) -> None:
    """UsageError where a row of a mask `[batch, sequence]` has padding before its last token, which kernels by length do not take."""
    short = np.flatnonzero(mask.any(axis=1) & ((mask != 0).sum(axis=1) < real_lengths(mask)))
    if short.size:
        raise UsageError(
            f"attention_mask, row {short[0]}: padding stands before a token; this bundle's kernels take it behind the text alone: "
            "pad on the right, or export with --kernels stock"
        )


def group_by_length(lengths: np.ndarray, cost: int = GROUP_COST) -> list[np.ndarray]:
    """Splits rows into groups that are cheapest to run, each padded to its own longest.

    Minimises `sum(rows * longest + cost)` over groups, exactly, by dynamic programming over the sorted lengths.
    Returns arrays of row numbers.
    """
    order = np.argsort(lengths, kind="stable")
    ordered = lengths[order].astype(np.int64)
    # Only a change of length can be a border, which bounds the work by the longest length, not by the batch.
    ends = np.flatnonzero(np.append(ordered[1:] != ordered[:-1], True)) + 1
    starts = np.concatenate([[0], ends])
    best = np.zeros(len(ends) + 1, np.int64)
    previous = np.zeros(len(ends) + 1, np.int64)
    for i, end in enumerate(ends, start=1):
        totals = best[:i] + (end - starts[:i]) * ordered[end - 1] + cost
        previous[i] = int(np.argmin(totals))
        best[i] = totals[previous[i]]
    groups = []
    i = len(ends)
    while i:
        groups.append(order[starts[previous[i]] : starts[i]])
        i = int(previous[i])
    return groups[::-1]
