"""Run an ONNX Runtime artifact on batches of token ids. Needs numpy and onnxruntime, nothing else."""

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np
import onnxruntime

from ..errors import TargetError, UsageError
from ..kernels.cpu import MISSING, library_path
from ..processor import X64_PRECISION, adds_bytes_exactly
from .base import Limits, group_by_length, prepared, put_rows, real_lengths

_DTYPES = {"tensor(int64)": np.int64, "tensor(int32)": np.int32}
"""numpy's types by ONNX Runtime's names."""

_OWN_KERNEL = "headway."
"""How the messages of our own kernels begin, inside those of ONNX Runtime: see `kernels/cpu/op.h`."""


class OrtRunner:
    """One ONNX Runtime session. `threads` is the size of its thread pool; None leaves it to the runtime.

    With the option `regroup`, a batch of mixed lengths is run as a few batches of similar lengths, because padding costs as
    much as real tokens. Outputs at padded positions have no meaning. `profile` is the prefix of ONNX Runtime's own profile, and
    `optimized` where it writes the graph that it runs.
    Raises TargetError where the model cannot be loaded on the first of `providers`.
    """

    def __init__(
        self,
        model: Path,
        options: Mapping[str, Any] | None = None,
        threads: int | None = None,
        providers: Sequence[str | tuple[str, Mapping[str, Any]]] = ("CPUExecutionProvider",),
        profile: Path | None = None,
        optimized: Path | None = None,
    ):
        check_providers(model, providers)
        settings = onnxruntime.SessionOptions()
        settings.log_severity_level = (
            4  # an error is raised with all that is said of it; its log would say it once more
        )
        if profile is not None:
            settings.enable_profiling = True
            settings.profile_file_prefix = str(profile)
        if optimized is not None:
            settings.optimized_model_filepath = str(optimized)
        if threads is not None:
            settings.intra_op_num_threads = threads
        chosen = dict(options or {})
        levels = onnxruntime.GraphOptimizationLevel
        settings.graph_optimization_level = {"all": levels.ORT_ENABLE_ALL, "none": levels.ORT_DISABLE_ALL}[
            chosen.get("graph_optimization_level", "all")
        ]
        for key, value in chosen.get("config", {}).items():
            if key == X64_PRECISION and adds_bytes_exactly():
                continue
            settings.add_session_config_entry(key, str(value))
        if chosen.get("kernels"):
            library = library_path()
            if library is None:
                raise TargetError(f"{model}: {MISSING}")
            settings.register_custom_ops_library(str(library))
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
        self.limits = Limits()
        self._dtypes = {i.name: np.dtype(_DTYPES[i.type]) for i in self.session.get_inputs() if i.type in _DTYPES}
        self._regroup = bool(chosen.get("regroup", False))
        outputs = self.session.get_outputs()
        self.output_names = tuple(o.name for o in outputs)
        self._sequence_axis = [list(o.shape).index("sequence") if "sequence" in o.shape else None for o in outputs]

    def run(self, feeds: Mapping[str, np.ndarray]) -> dict[str, np.ndarray]:
        """Run a batch: inputs int64 `[batch, sequence]`, outputs by name, float32."""
        wanted = prepared(feeds, self.input_names, self.limits, self._dtypes)
        mask = wanted.get("attention_mask", feeds.get("attention_mask"))
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
        try:
            results = self.session.run(None, feeds)
        except Exception as error:  # onnxruntime raises its own unrelated exception types
            if type(error).__name__ not in ("Fail", "InvalidArgument"):
                raise
            raise UsageError(_refusal(feeds, str(error).splitlines()[0])) from error
        return dict(zip(self.output_names, results, strict=True))


def _refusal(feeds: Mapping[str, np.ndarray], message: str) -> str:
    """Return why the runtime refuses a batch: a kernel of Headway's own says it itself, of the others the shapes are named."""
    shapes = ", ".join(f"{name} {list(array.shape)}" for name, array in feeds.items())
    own = message.find(_OWN_KERNEL)
    if own >= 0:
        return f"{message[own:]} (inputs: {shapes})"
    return (
        f"ONNX Runtime cannot run inputs of these shapes: {shapes}; [batch, sequence] within the model's length is expected "
        f"({message[:300]})"
    )


def check_providers(model: Path, providers: Sequence[str | tuple[str, Mapping[str, Any]]]) -> None:
    """Raise TargetError where the first provider is not in this build: the runtime would silently take another."""
    wanted, known = _first(providers), onnxruntime.get_available_providers()
    if wanted not in known:
        raise TargetError(
            f"{model} runs on {wanted}, which this ONNX Runtime {onnxruntime.__version__} does not have ({', '.join(known)}): "
            'pip install onnxruntime-gpu, or open it with providers=["CPUExecutionProvider"]'
        )


def check_loaded(model: Path, providers: Sequence[str | tuple[str, Mapping[str, Any]]], loaded: Sequence[str]) -> None:
    """Raise TargetError where a session runs without the first provider, because its libraries or its GPU are missing."""
    wanted = _first(providers)
    if wanted not in loaded:
        raise TargetError(
            f"{model} runs on {wanted}, which ONNX Runtime {onnxruntime.__version__} could not load here ({', '.join(loaded)} was "
            "taken instead): it needs a GPU, a driver and CUDA's libraries of the versions that onnxruntime-gpu was built for, or open "
            'it with providers=["CPUExecutionProvider"]'
        )


def _first(providers: Sequence[str | tuple[str, Mapping[str, Any]]]) -> str:
    return providers[0] if isinstance(providers[0], str) else providers[0][0]
