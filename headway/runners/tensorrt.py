"""Open and run TensorRT and TensorRT-RTX engines. Needs numpy, the library the engine was built with, and cuda-bindings.

Buffers are allocated once, as large as the largest profile needs. All contexts share one scratch memory for activations,
because they run one after the other on one stream. A batch goes to the profile that takes it. Where outputs do not depend on
padding, a batch is split by length and padded to one of a few lengths and to a power of two of texts. So few shapes occur, and
each is captured once as a CUDA graph and replayed from then on.
"""

import ctypes
import threading
from collections.abc import Mapping
from dataclasses import dataclass
from importlib import import_module
from pathlib import Path
from types import ModuleType
from typing import Any

import numpy as np

from ..engine.record import PLAN_FILE, read_plan, read_record
from ..errors import TargetError, UsageError
from .base import Limits, check_mask, prepared, put_rows, real_lengths

_MAGIC = b"vtrt"


def open_engine(engine: Path, options: Mapping[str, Any], *, cuda: Any = None) -> "EngineRunner":
    """Open an engine. TargetError where this machine, its GPU or its library is not what the engine was built for.

    `cuda` stands in for `cuda.bindings.runtime`.
    """
    plan = read_plan(engine.with_name(PLAN_FILE))
    again = (
        f"the graph is in the bundle: build the engine again here with `python {engine.with_name('build_engine.py')}`"
    )
    if not engine.is_file():
        raise TargetError(f"{engine}: not built yet, the bundle holds a plan; {again}")
    record = read_record(engine)
    check_file(engine, record, again)
    trt = _library(plan["library"], record)
    check_version(engine, record, trt, again)
    device = _Device(cuda)
    check_gpu(engine, record, device.gpu(), again)
    return EngineRunner(trt, device, engine, plan, regroup=bool(options.get("regroup")), again=again)


def check_file(engine: Path, record: Mapping[str, Any] | None, again: str) -> None:
    """Raise TargetError where the file is not an engine, or is truncated."""
    with engine.open("rb") as file:
        first_bytes = file.read(len(_MAGIC))
    size = engine.stat().st_size
    if first_bytes not in (_MAGIC, b"ftrt"):
        raise TargetError(f"{engine}: not a TensorRT engine; {again}")
    if record is not None and size != record["bytes"]:
        raise TargetError(
            f"{engine}: has {size} bytes, {record['bytes']} were built: it is truncated or was replaced; {again}"
        )


def check_version(engine: Path, record: Mapping[str, Any] | None, trt: ModuleType, again: str) -> None:
    """Raise TargetError where another version of the library built the engine, unless it was built version-compatible."""
    if record is None or record["version_compatible"] or record["version"] == trt.__version__:
        return
    raise TargetError(
        f"{engine}: built by {record['library']} {record['version']}, and this is {trt.__version__}, which cannot read it; {again}"
    )


def check_gpu(engine: Path, record: Mapping[str, Any] | None, gpu: str, again: str) -> None:
    """Raise TargetError where the engine was not built for this GPU. `gpu` is its compute capability, as `sm_89`."""
    built = record["gpus"] if record is not None else []
    newer = record is not None and record["hardware"] == "ampere+" and int(gpu.removeprefix("sm_")) >= 80
    if built and gpu not in built and not newer:
        raise TargetError(f"{engine}: built for {', '.join(built)}, and this GPU is {gpu}; {again}")


def _library(name: str, record: Mapping[str, Any] | None) -> ModuleType:
    try:
        return import_module(name)
    except (ImportError, OSError) as error:
        version = f"=={record['version']}" if record is not None else ""
        raise TargetError(
            f"the engine runs in {name}, which cannot be imported ({error}): pip install '{name.replace('_', '-')}{version}'"
        ) from error


class _Device:
    """The few CUDA calls that a runner makes; every status is checked."""

    def __init__(self, runtime: Any = None):
        try:
            self.runtime = runtime or import_module("cuda.bindings.runtime")
        except ImportError as error:
            raise TargetError("engines need cuda-bindings: pip install 'headway[tensorrt-rtx]'") from error

    def __getattr__(self, name: str) -> Any:
        function = getattr(self.runtime, name)

        def call(*arguments: Any) -> Any:
            status, *results = function(*arguments)
            if int(status) != 0:
                raise TargetError(
                    f"{name} failed: {getattr(status, 'name', status)}; is there a GPU, and its driver new enough?"
                )
            return results[0] if len(results) == 1 else tuple(results)

        return call

    def gpu(self) -> str:
        """Return the compute capability of the current GPU, as `sm_89`."""
        kinds = self.runtime.cudaDeviceAttr
        major = self.cudaDeviceGetAttribute(kinds.cudaDevAttrComputeCapabilityMajor, 0)
        minor = self.cudaDeviceGetAttribute(kinds.cudaDevAttrComputeCapabilityMinor, 0)
        return f"sm_{major}{minor}"


@dataclass
class _Buffer:
    """One input or output: pinned memory of the host, and device memory of the same size."""

    name: str
    dtype: np.dtype
    host: np.ndarray
    device: int


@dataclass
class _Execution:
    """A context and the graph captured from it. A captured context must not change, so each shape has its own."""

    context: Any
    graph: Any = None


def refit(trt: ModuleType, engine: Any, graph: Path, log: Any) -> None:
    """Refit an engine that was built without weights from the graph. TargetError where they do not fit."""
    refitter = trt.Refitter(engine, log)
    if not trt.OnnxParserRefitter(refitter, log).refit_from_file(str(graph)) or not refitter.refit_cuda_engine():
        raise TargetError(f"{graph}: the engine has no weights of its own, and these do not fit it")


def _context_settings(trt: ModuleType, engine: Any, *, captured: bool) -> Any:
    """Return what contexts are made with: scratch memory of the caller, and for TensorRT-RTX a shared cache of kernels.

    TensorRT-RTX compiles kernels where it runs, and uses generic ones until those of a shape are ready. A captured graph would
    keep the generic ones, so a captured context compiles eagerly.
    Source: TensorRT-RTX documentation, "Working with Dynamic Shapes", "Working with Runtime Cache".
    """
    memory = trt.ExecutionContextAllocationStrategy.USER_MANAGED
    if not hasattr(trt, "DynamicShapesKernelSpecializationStrategy"):
        return memory
    config = engine.create_runtime_config()
    config.set_execution_context_allocation_strategy(memory)
    config.set_runtime_cache(config.create_runtime_cache())
    if captured:
        config.dynamic_shapes_kernel_specialization_strategy = trt.DynamicShapesKernelSpecializationStrategy.EAGER
    return config


class EngineRunner:
    """A `Runner` for one engine. Inputs int64 `[batch, sequence]`, outputs float32."""

    def __init__(
        self, trt: ModuleType, device: _Device, engine: Path, plan: Mapping[str, Any], *, regroup: bool, again: str
    ):
        self.device, self.runtime = device, device.runtime
        self.profiles = [(tuple(p["min"]), tuple(p["opt"]), tuple(p["max"])) for p in plan["profiles"]]
        self.sequence_axis: dict[str, int | None] = plan.get("outputs", {})
        self.regroup = regroup
        settings: dict[str, Any] = plan["settings"] | (read_record(engine) or {})  # trtexec writes no record
        self.padding_behind = bool(settings.get("kernels"))
        log = trt.Logger(trt.Logger.ERROR)
        self._library = trt.Runtime(log)
        if settings.get("version_compatible"):  # such an engine includes the runtime of the version that built it
            self._library.engine_host_code_allowed = True
        self.engine = self._library.deserialize_cuda_engine(engine.read_bytes())
        if self.engine is None:
            raise TargetError(f"{engine}: {trt.__name__} {trt.__version__} cannot load it on this GPU; {again}")
        if settings.get("stripped"):
            refit(trt, self.engine, engine.with_name("model.onnx"), log)
        names = [self.engine.get_tensor_name(i) for i in range(self.engine.num_io_tensors)]
        is_input = {n: self.engine.get_tensor_mode(n) == trt.TensorIOMode.INPUT for n in names}
        self.input_names = tuple(n for n in names if is_input[n])
        self.output_names = tuple(n for n in names if not is_input[n])
        self.limits = Limits()
        self._lock = threading.Lock()
        self.stream = device.cudaStreamCreate()
        self._how = _context_settings(trt, self.engine, captured=regroup)
        self._scratch_bytes = self.engine.device_memory_size_v2  # of the largest profile
        self._scratch = device.cudaMalloc(self._scratch_bytes)
        most = max(p[2][0] for p in self.profiles), max(p[2][1] for p in self.profiles)
        self.buffers = {n: self._allocate(trt, n, most) for n in names}
        self._executions: dict[tuple[int, ...], _Execution] = {}

    def _allocate(self, trt: ModuleType, name: str, most: tuple[int, int]) -> _Buffer:
        """Allocate memory for the largest batch of any profile; dynamic dimensions are batch, then sequence."""
        shape, free = [], iter(most)
        for size in self.engine.get_tensor_shape(name):
            shape.append(next(free) if size == -1 else size)
        dtype = np.dtype(trt.nptype(self.engine.get_tensor_dtype(name)))
        nbytes = int(np.prod(shape)) * dtype.itemsize
        pointer = self.device.cudaMallocHost(nbytes)
        return _Buffer(name, dtype, _view(pointer, nbytes), self.device.cudaMalloc(nbytes))

    def run(self, feeds: Mapping[str, np.ndarray]) -> dict[str, np.ndarray]:
        """Run any batch: split it by texts and lengths as the profiles require, and join the outputs in the order given.

        UsageError for a sequence longer than every profile, or a mask that the engine's kernels do not take.
        """
        wanted = {n: np.ascontiguousarray(a) for n, a in prepared(feeds, self.input_names, self.limits).items()}
        batch, length = wanted[self.input_names[0]].shape
        mask = feeds.get("attention_mask")
        if self.padding_behind and mask is not None:
            check_mask(mask)
        lengths = real_lengths(mask) if self.regroup and mask is not None else np.full(batch, length)
        results: dict[str, np.ndarray] = {}
        for rows, number in self._plan(lengths):
            longest = int(lengths[rows].max())
            with self._lock:  # there is one stream, and one set of buffers
                part = self._run({n: a[rows, :longest] for n, a in wanted.items()}, number)
            for name, array in part.items():
                put_rows(results, name, array, rows, (batch, length), self.sequence_axis[name])
        return results

    def _plan(self, lengths: np.ndarray) -> list[tuple[np.ndarray, int]]:
        """Return the rows and the profile of each run: by length, no more texts at once than the profile takes."""
        order = np.argsort(lengths, kind="stable")
        chosen = np.array([self._profile_for(int(n)) for n in lengths])
        runs = []
        for number in sorted(set(chosen.tolist())):
            rows = order[chosen[order] == number]
            most = self.profiles[number][2][0]
            runs += [(rows[i : i + most], number) for i in range(0, len(rows), most)]
        return runs

    def _profile_for(self, length: int) -> int:
        """Return the profile with the smallest maximal length that takes `length`."""
        fits = [i for i, (_, _, high) in enumerate(self.profiles) if length <= high[1]]
        if not fits:
            longest = max(p[2][1] for p in self.profiles)
            raise UsageError(f"a sequence of {length} tokens: this engine takes up to {longest}")
        return min(fits, key=lambda i: self.profiles[i][2][1])

    def _run(self, feeds: Mapping[str, np.ndarray], number: int) -> dict[str, np.ndarray]:
        """Run one batch that fits the profile, padded where padding does not change the outputs."""
        low, _, high = self.profiles[number]
        batch, length = next(iter(feeds.values())).shape
        if self.regroup:
            shape = max(low[0], min(_power_of_two(batch), high[0])), max(low[1], min(rung(length), high[1]))
        elif length < low[1] or batch < low[0]:
            raise UsageError(
                f"a batch of {batch}x{length}: this profile begins at {low[0]}x{low[1]}, and padding would change the outputs"
            )
        else:
            shape = batch, length
        for name, array in feeds.items():
            buffer = self.buffers[name]
            inside = buffer.host[: shape[0] * shape[1] * buffer.dtype.itemsize].view(buffer.dtype).reshape(shape)
            inside.fill(0)
            inside[:batch, :length] = array
            if name == "attention_mask":
                inside[batch:, 0] = 1  # the softmax of a row without real tokens is undefined
        execution = self._execution(number, shape)
        self._launch(execution, shape)
        self.device.cudaStreamSynchronize(self.stream)
        return {name: self._answer(execution.context, name, batch, length) for name in self.output_names}

    def _answer(self, context: Any, name: str, batch: int, length: int) -> np.ndarray:
        buffer = self.buffers[name]
        shape = tuple(context.get_tensor_shape(name))
        full = buffer.host[: int(np.prod(shape)) * buffer.dtype.itemsize].view(buffer.dtype).reshape(shape)
        axis = self.sequence_axis[name]
        index = [slice(batch), *([slice(None)] * (len(shape) - 1))]
        if axis is not None:
            index[axis] = slice(length)
        return full[tuple(index)].copy()

    def _execution(self, number: int, shape: tuple[int, int]) -> _Execution:
        """Return the context for a profile and shape; without regrouping, one context per profile, set to the shape."""
        key = (number, *shape) if self.regroup else (number,)
        if key not in self._executions:
            context = self._context()
            context.set_optimization_profile_async(number, int(self.stream))
            for buffer in self.buffers.values():
                context.set_tensor_address(buffer.name, buffer.device)
            self._executions[key] = _Execution(context)
        execution = self._executions[key]
        if execution.graph is None:
            for name in self.input_names:
                execution.context.set_input_shape(name, shape)
        return execution

    def _context(self) -> Any:
        """Create a context on the shared scratch memory."""
        context = self.engine.create_execution_context(self._how)
        if context is None:
            raise TargetError("the engine has no room on this GPU: the library could not make an execution context")
        context.set_device_memory(int(self._scratch), self._scratch_bytes)
        return context

    def _launch(self, execution: _Execution, shape: tuple[int, int]) -> None:
        """Replay the graph of the shape; the first time, run without one and then capture it."""
        if execution.graph is not None:
            self.device.cudaGraphLaunch(execution.graph, self.stream)
            return
        self._enqueue(execution.context, shape)
        if not self.regroup or not self._capturable(execution.context):
            return
        self.device.cudaStreamSynchronize(self.stream)
        modes = self.runtime.cudaStreamCaptureMode
        self.device.cudaStreamBeginCapture(self.stream, modes.cudaStreamCaptureModeThreadLocal)
        self._enqueue(execution.context, shape)
        captured = self.device.cudaStreamEndCapture(self.stream)
        execution.graph = self.device.cudaGraphInstantiate(captured, 0)

    def _capturable(self, context: Any) -> bool:
        """Return whether the context can be captured; only TensorRT-RTX has contexts that cannot."""
        ask = getattr(context, "is_stream_capturable", None)
        return ask is None or bool(ask(int(self.stream)))

    def _enqueue(self, context: Any, shape: tuple[int, int]) -> None:
        """Enqueue copying the inputs, computing, and copying the outputs, in order on the runner's stream."""
        kinds = self.runtime.cudaMemcpyKind
        for name in self.input_names:
            buffer = self.buffers[name]
            nbytes = shape[0] * shape[1] * buffer.dtype.itemsize
            self.device.cudaMemcpyAsync(
                buffer.device, buffer.host.ctypes.data, nbytes, kinds.cudaMemcpyHostToDevice, self.stream
            )
        if not context.execute_async_v3(int(self.stream)):
            raise TargetError(f"the engine did not run at {shape[0]}x{shape[1]}")
        for name in self.output_names:
            buffer = self.buffers[name]
            nbytes = int(np.prod(tuple(context.get_tensor_shape(name)))) * buffer.dtype.itemsize
            self.device.cudaMemcpyAsync(
                buffer.host.ctypes.data, buffer.device, nbytes, kinds.cudaMemcpyDeviceToHost, self.stream
            )


def _view(pointer: Any, nbytes: int) -> np.ndarray:
    """Return bytes at an address as an array that does not own them."""
    return np.ctypeslib.as_array((ctypes.c_uint8 * nbytes).from_address(int(pointer)))


def rung(length: int) -> int:
    """Return the next length that batches are padded to: 8, then two per doubling (12, 16, 24, 32, 48 …)."""
    power = max(8, _power_of_two(length))
    return power * 3 // 4 if length <= power * 3 // 4 and power > 8 else power


def _power_of_two(number: int) -> int:
    return 1 << (number - 1).bit_length()
