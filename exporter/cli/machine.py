"""What this machine can build and run: each target's own answers, and what to install where it is no."""

import sys
from collections.abc import Mapping
from dataclasses import asdict, dataclass
from importlib.util import find_spec
from typing import Any

from ...errors import HeadwayError
from ..recipe.recipe import Recipe
from ..recipe.targets import TARGETS, TargetEntry
from ..targets.base import Target
from ..targets.registry import target_of

_NO_GPU = "this machine has no NVIDIA GPU: build here, and run on one that has"
_EXAMPLE_GPU = "sm_89"
_PYTHON_RUNTIMES = {"executorch": "executorch", "litert": "ai_edge_litert"}
"""Runners that need a package, which an extra of the runner's name installs."""


@dataclass(frozen=True)
class TargetState:
    """What can be done with a target on this machine. `build_reason` and `run_reason` say why not, and what to do.

    `build` is "yes", "plan" (the graph and how to build it elsewhere) or "no". `run` is None where Headway does not know the
    runtime.
    """

    name: str
    device: str
    dtypes: tuple[str, ...]
    apps: tuple[str, ...]
    build: str
    build_reason: str | None
    run: bool | None
    run_reason: str | None

    def to_json(self) -> Mapping[str, Any]:
        """Return the state as plain values."""
        return asdict(self)


def states() -> list[TargetState]:
    """Return the state of every target, in the order in which they are listed."""
    return [_state(name, entry) for name, entry in TARGETS.items()]


def _state(name: str, entry: TargetEntry) -> TargetState:
    target, reason = _set_up(name, entry)
    build = "yes" if reason is None else "no"
    if reason is not None and "engine" in entry.options:
        named_gpu, named_reason = _set_up(name, entry, gpus=[_EXAMPLE_GPU])
        if named_reason is None:  # all that is missing is the GPU's name
            target, build = named_gpu, "yes"
        elif _set_up(name, entry, plan=True)[1] is None:
            build = "plan"
    run, run_reason = _runs(entry, target)
    return TargetState(name, entry.device, entry.dtypes, entry.platforms, build, reason, run, run_reason)


def _set_up(name: str, entry: TargetEntry, **engine: Any) -> tuple[Target | None, str | None]:
    """Return a target with no more options than it needs, and why it cannot be built."""
    values: dict[str, Any] = {"engine": engine} if engine else {}
    try:
        target = target_of(
            Recipe(source="", target=name, verify="module" if entry.convert_only else "artifact", **values)
        )
        return target, target.available()
    except HeadwayError as error:
        return None, str(error)
    except ModuleNotFoundError as error:
        return None, f"this needs {error.name}, which is not installed: pip install {error.name}"


def _runs(entry: TargetEntry, target: Target | None) -> tuple[bool | None, str | None]:
    """Return whether the artifact can be run here, and why not."""
    if entry.device == "gpu":
        reason = _no_gpu_runtime(entry, target)
    elif entry.runner == "onnxruntime":
        reason = None
    elif entry.runner in _PYTHON_RUNTIMES:
        missing = find_spec(_PYTHON_RUNTIMES[entry.runner]) is None
        reason = f"its runtime is not installed: pip install 'headway[{entry.runner}]'" if missing else None
    elif entry.convert_only and sys.platform != "darwin":
        reason = f"{entry.convert_only}: copy the bundle there"
    else:
        return None, f"Headway does not know the runtime {entry.runner} on this machine"
    return reason is None, reason


def _no_gpu_runtime(entry: TargetEntry, target: Target | None) -> str | None:
    from ...engine.build import missing, this_gpu

    if this_gpu() is None:
        return _NO_GPU
    if entry.runner == "onnxruntime" and target is not None:
        import onnxruntime

        provider = target.options(regroup=True)["providers"][0][0]
        if provider not in onnxruntime.get_available_providers():
            return f"onnxruntime here lacks {provider}: pip install onnxruntime-gpu in its place"
    library = getattr(target, "library", None)
    return missing(library) if isinstance(library, str) else None
