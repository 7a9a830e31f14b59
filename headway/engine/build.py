"""Build engines from a typed graph with TensorRT 10, TensorRT 11 or TensorRT-RTX, which share one interface.

TensorRT builds for the GPU of the machine it runs on and measures kernels there. TensorRT-RTX builds for any GPU that is named
and chooses kernels where the engine runs. It therefore has no timing cache, and without a GPU no weight-stripped or
version-compatible engines.
"""

import json
import time
from collections.abc import Sequence
from dataclasses import asdict, dataclass
from importlib import import_module
from pathlib import Path
from types import ModuleType
from typing import Any

from ..errors import TargetError
from ..kernels.device import architecture
from .profiles import Profile
from .record import RECORD_SUFFIX

PACKAGES = {"tensorrt": "tensorrt>=10.9", "tensorrt_rtx": "tensorrt-rtx==1.7.1.116"}
RTX_GPUS = ("sm_75", "sm_80", "sm_86", "sm_89", "sm_120", "sm_121")


@dataclass(frozen=True)
class BuildSettings:
    """How an engine is built.

    `gpus`: what TensorRT-RTX builds for. `cache`: TensorRT's timing cache, read and written. `level`: 0 to 5.
    `hardware`: `none`, `same` (any GPU of the same compute capability) or `ampere+`. `stripped`: without weights, which
    are refitted from the graph. `kernels`: the graph uses Headway's own kernels, which are declared before it is parsed.
    `sparse`: weights have at most two non-zeros in four, so that TensorRT may choose kernels that skip the zeros.
    """

    gpus: tuple[str, ...] = ()
    version_compatible: bool = False
    hardware: str = "none"
    stripped: bool = False
    level: int | None = None
    cache: Path | None = None
    kernels: bool = False
    sparse: bool = False


def missing(library: str) -> str | None:
    """Return why `library` (`tensorrt` or `tensorrt_rtx`) cannot be used here, with what to install; None where it can."""
    try:
        find_library(library)
    except TargetError as error:
        return str(error)
    return None


def find_library(library: str) -> ModuleType:
    """Import `library`. TargetError names the package and version to install."""
    package = PACKAGES[library]
    try:
        module = import_module(library)
    except (ImportError, OSError) as error:
        raise TargetError(
            f"{library} cannot be imported ({error}): pip install '{package}' (Linux or Windows on x86-64)"
        ) from error
    if not hasattr(module, "OnnxParser"):
        raise TargetError(
            f"{library} {getattr(module, '__version__', '?')} has no ONNX parser: pip install '{package}'"
        )
    return module


def check_settings(library: str, settings: BuildSettings) -> None:
    """Raise TargetError for a GPU that cannot be built for, or a kind of engine that the library cannot make."""
    if library != "tensorrt_rtx":
        if settings.gpus:
            raise TargetError(
                "TensorRT builds for the GPU of the machine it runs on: leave `gpus` (--gpu) out, or use tensorrt-rtx"
            )
        if settings.kernels and (settings.version_compatible or settings.hardware != "none"):
            raise TargetError(
                "Headway's own kernels are compiled for the GPU that builds, and declared to one version of TensorRT: leave "
                "version_compatible and hardware out, or export with `kernels: stock` (--kernels stock)"
            )
        return
    if settings.kernels:
        raise TargetError("TensorRT-RTX has no plugins: use `kernels: stock` (--kernels stock), or the target tensorrt")
    for gpu in settings.gpus:
        if gpu not in RTX_GPUS:
            raise TargetError(f"GPU {gpu!r}: TensorRT-RTX builds for {', '.join(RTX_GPUS)}")
    if settings.version_compatible or settings.stripped or settings.hardware != "none":
        raise TargetError(
            "TensorRT-RTX makes no version-compatible, hardware-compatible or weight-stripped engines here: name the GPUs "
            "with `gpus` (--gpu) instead, or use the target tensorrt"
        )


def build_engine(
    library: str, onnx: Path, profiles: Sequence[Profile], settings: BuildSettings, out: Path
) -> dict[str, Any]:
    """Parse `onnx` with strong typing, build the engine, and write it to `out` with its record and log beside it.

    Returns the record. TargetError names the node, and by its name the module, that the parser or the builder refused.
    """
    trt = find_library(library)
    check_settings(library, settings)
    if library == "tensorrt_rtx" and not settings.gpus:
        raise TargetError("there is no GPU here to build for: name some with --gpu, or build where the engine will run")
    if settings.kernels:
        declare_kernels()
    log = _log(trt)
    start = time.perf_counter()
    builder = trt.Builder(log)
    network = builder.create_network(1 << int(trt.NetworkDefinitionCreationFlag.STRONGLY_TYPED))
    parse(trt, network, onnx, log)
    config = builder.create_builder_config()
    _configure(trt, config, library, settings)
    for profile in profiles:
        shapes = builder.create_optimization_profile()
        for i in range(network.num_inputs):
            shapes.set_shape(network.get_input(i).name, profile.min, profile.opt, profile.max)
        if config.add_optimization_profile(shapes) < 0:
            raise TargetError(f"profile {asdict(profile)} was refused: {log.worst()}")
    cache = _read_cache(config, settings.cache) if library == "tensorrt" else None
    engine = builder.build_serialized_network(network, config)
    if engine is None:
        raise TargetError(f"{onnx.name}: {library} {trt.__version__} cannot build it: {log.worst()}")
    out.write_bytes(memoryview(engine))
    if cache is not None and settings.cache is not None:
        settings.cache.write_bytes(memoryview(cache.serialize()))
    record = {
        "library": library,
        "version": trt.__version__,
        "gpus": list(settings.gpus) or ([gpu] if (gpu := this_gpu()) else []),
        "driver": this_driver(),
        "version_compatible": settings.version_compatible,
        "hardware": settings.hardware,
        "stripped": settings.stripped,
        "kernels": settings.kernels,
        "profiles": [asdict(p) for p in profiles],
        "layers": network.num_layers,
        "bytes": engine.nbytes,
        "seconds": round(time.perf_counter() - start, 3),
    }
    out.with_suffix(".log").write_text("\n".join(log.lines) + "\n", encoding="utf-8")
    out.with_suffix(RECORD_SUFFIX).write_text(json.dumps(record, indent=2) + "\n", encoding="utf-8")
    return record


def declare_kernels() -> None:
    """Declare Headway's own kernels to TensorRT. TargetError names what is missing."""
    from ..kernels.tensorrt_plugin import register

    try:
        register()
    except ImportError as error:
        package = "'tensorrt>=10.9'" if str(error.name).startswith("tensorrt") else "'triton==3.6.0' (Linux)"
        raise TargetError(
            f"Headway's own kernels need {error.name}, which cannot be imported ({error}): pip install {package}, or export "
            "with `kernels: stock` (--kernels stock)"
        ) from error


def parse(trt: ModuleType, network: Any, onnx: Path, log: Any) -> None:
    """Parse a graph into a network. TargetError names the first node that the parser refuses."""
    parser = trt.OnnxParser(network, log)
    if parser.parse_from_file(str(onnx)):
        return
    errors = [parser.get_error(i) for i in range(parser.num_errors)]
    first = next((e for e in errors if e.node_name()), errors[0] if errors else None)
    if first is None:
        raise TargetError(f"{onnx.name}: the parser of {trt.__name__} {trt.__version__} refuses it: {log.worst()}")
    raise TargetError(
        f"node {first.node_name()!r} ({first.node_operator()}) is refused by the parser of {trt.__name__} {trt.__version__}: "
        f"{first.desc()}"
    )


def _configure(trt: ModuleType, config: Any, library: str, settings: BuildSettings) -> None:
    config.profiling_verbosity = trt.ProfilingVerbosity.DETAILED
    config.clear_flag(
        trt.BuilderFlag.TF32
    )  # on by default: float32 matmuls would round their inputs to 10 bits of mantissa
    if settings.level is not None:
        config.builder_optimization_level = settings.level
    if library == "tensorrt_rtx":
        config.set_flag(
            trt.BuilderFlag.REQUIRE_USER_ALLOCATION
        )  # without it, some contexts cannot be captured in a CUDA graph
        config.num_compute_capabilities = len(settings.gpus)
        for i, gpu in enumerate(settings.gpus):
            config.set_compute_capability(getattr(trt.ComputeCapability, gpu.replace("_", "").upper()), i)
        return
    if settings.version_compatible:
        config.set_flag(trt.BuilderFlag.VERSION_COMPATIBLE)
    if settings.stripped:
        config.set_flag(trt.BuilderFlag.STRIP_PLAN)
        config.set_flag(trt.BuilderFlag.REFIT_IDENTICAL)
    if settings.sparse:
        config.set_flag(trt.BuilderFlag.SPARSE_WEIGHTS)
    levels = {"none": "NONE", "same": "SAME_COMPUTE_CAPABILITY", "ampere+": "AMPERE_PLUS"}
    config.hardware_compatibility_level = getattr(trt.HardwareCompatibilityLevel, levels[settings.hardware])


def _read_cache(config: Any, path: Path | None) -> Any:
    """Load TensorRT's timing cache from where an earlier build left it."""
    if path is None:
        return None
    cache = config.create_timing_cache(path.read_bytes() if path.is_file() else b"")
    if not config.set_timing_cache(
        cache, ignore_mismatch=False
    ):  # made on another GPU or by another version: start over
        cache = config.create_timing_cache(b"")
        config.set_timing_cache(cache, ignore_mismatch=False)
    return cache


def this_gpu() -> str | None:
    """Return the compute capability of this machine's GPU, as `sm_89`; None where there is none."""
    try:
        return f"sm_{architecture()}"
    except (OSError, RuntimeError):
        return None


def this_driver() -> str | None:
    """Return the version of the NVIDIA driver; None where there is none."""
    try:
        text = Path("/proc/driver/nvidia/version").read_text(encoding="utf-8")
    except OSError:
        return None
    return next((word for word in text.split() if word.count(".") and word.replace(".", "").isdigit()), None)


def _log(trt: ModuleType) -> Any:
    """Return a logger that keeps the builder's messages."""

    class Log(trt.ILogger):  # type: ignore[name-defined]
        def __init__(self) -> None:
            super().__init__()
            self.lines: list[str] = []
            self.errors: list[str] = []

        def log(self, severity: Any, message: str) -> None:
            self.lines.append(f"{severity.name}: {message}")
            if severity in (trt.ILogger.Severity.ERROR, trt.ILogger.Severity.INTERNAL_ERROR):
                self.errors.append(message)

        def worst(self) -> str:
            return self.errors[0] if self.errors else "no reason was given"

    return Log()
