"""The engine runner against a stand-in for library and GPU: what it computes with which shapes, graphs and copies.

No engine runs here. The stand-in keeps "device" memory in this process, executes what is enqueued, records what is captured,
and fails where the real one would: shapes outside a profile, a context changed after its graph was captured.
"""

import ctypes
import json
from collections.abc import Callable
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from headway.errors import TargetError, UsageError
from headway.runners import tensorrt as engine

PROFILES = [{"min": [1, 1], "opt": [2, 8], "max": [4, 8]}, {"min": [1, 9], "opt": [2, 16], "max": [4, 24]}]
SCRATCH_BYTES = 512
INPUTS, OUTPUTS = ("input_ids", "attention_mask"), ("tokens", "pooled")


class Cuda:
    """`cuda.bindings.runtime` as far as the runner uses it."""

    def __init__(self, capability: tuple[int, int] = (8, 9)):
        self.cudaDeviceAttr = SimpleNamespace(
            cudaDevAttrComputeCapabilityMajor="major", cudaDevAttrComputeCapabilityMinor="minor"
        )
        self.cudaMemcpyKind = SimpleNamespace(cudaMemcpyHostToDevice=1, cudaMemcpyDeviceToHost=2)
        self.cudaStreamCaptureMode = SimpleNamespace(cudaStreamCaptureModeThreadLocal=1)
        self.capability = dict(zip(("major", "minor"), capability, strict=True))
        self.memory: dict[int, Any] = {}
        self.recording: list[Callable[[], None]] | None = None
        self.scratch: set[int] = set()
        self.captures = self.launches = self.allocations = 0

    def do(self, work: Callable[[], None]) -> None:
        if self.recording is not None:
            self.recording.append(work)
        else:
            work()

    def cudaDeviceGetAttribute(self, which: str, _: int) -> tuple[int, int]:
        return 0, self.capability[which]

    def cudaMalloc(self, nbytes: int) -> tuple[int, int]:
        block = (ctypes.c_uint8 * nbytes)()
        self.memory[ctypes.addressof(block)] = block
        self.allocations += 1
        return 0, ctypes.addressof(block)

    cudaMallocHost = cudaMalloc

    def cudaStreamCreate(self) -> tuple[int, int]:
        return 0, 7

    def cudaStreamSynchronize(self, _: int) -> tuple[int]:
        assert self.recording is None, "a stream cannot be waited for while it is captured"
        return (0,)

    def cudaMemcpyAsync(self, target: int, source: int, nbytes: int, _kind: int, _stream: int) -> tuple[int]:
        self.do(lambda: ctypes.memmove(target, source, nbytes) and None)
        return (0,)

    def cudaStreamBeginCapture(self, _stream: int, _mode: int) -> tuple[int]:
        self.recording = []
        return (0,)

    def cudaStreamEndCapture(self, _stream: int) -> tuple[int, list]:
        recorded, self.recording = self.recording, None
        assert recorded
        self.captures += 1
        return 0, recorded

    def cudaGraphInstantiate(self, graph: list, _flags: int) -> tuple[int, list]:
        return 0, graph

    def cudaGraphLaunch(self, graph: list, _stream: int) -> tuple[int]:
        self.launches += 1
        for work in graph:
            work()
        return (0,)


class Context:
    """An execution context of a model that gives each token back, its mask beside it, and the sum over real tokens."""

    def __init__(self, cuda: Cuda):
        self.cuda, self.profile = cuda, 0
        self.shapes: dict[str, tuple[int, ...]] = {}
        self.addresses: dict[str, int] = {}
        self.scratch: tuple[int, int] | None = None
        self.captured = False

    def set_device_memory(self, address: int, nbytes: int) -> None:
        assert not self.captured and nbytes == SCRATCH_BYTES == len(self.cuda.memory[address])
        self.scratch = address, nbytes
        self.cuda.scratch.add(address)

    def set_optimization_profile_async(self, number: int, _stream: int) -> bool:
        assert not self.captured
        self.profile = number
        return True

    def set_tensor_address(self, name: str, address: int) -> bool:
        assert not self.captured and address in self.cuda.memory
        self.addresses[name] = address
        return True

    def set_input_shape(self, name: str, shape: tuple[int, int]) -> bool:
        assert not self.captured, "a context must not change once its graph was captured"
        low, high = PROFILES[self.profile]["min"], PROFILES[self.profile]["max"]
        assert all(a <= b <= c for a, b, c in zip(low, shape, high, strict=True)), f"{shape} is outside the profile"
        self.shapes[name] = shape
        return True

    def get_tensor_shape(self, name: str) -> tuple[int, ...]:
        batch, length = self.shapes[INPUTS[0]]
        return {"tokens": (batch, length, 2), "pooled": (batch, 1)}[name]

    def execute_async_v3(self, _stream: int) -> bool:
        assert self.scratch is not None, "a context without memory of its own has to be given some"
        self.captured = self.captured or self.cuda.recording is not None
        self.cuda.do(self._compute)
        return True

    def _compute(self) -> None:
        ids, mask = (self._array(n, np.int64, self.shapes[n]) for n in INPUTS)
        assert mask.any(axis=1).all(), "a row of padding alone has no softmax"
        self._array("tokens", np.float32, self.get_tensor_shape("tokens"))[:] = np.stack([ids, mask], axis=-1)
        self._array("pooled", np.float32, self.get_tensor_shape("pooled"))[:] = (ids * mask).sum(axis=1, keepdims=True)

    def _array(self, name: str, dtype: Any, shape: tuple[int, ...]) -> np.ndarray:
        block = self.cuda.memory[self.addresses[name]]
        return np.frombuffer(block, dtype, int(np.prod(shape))).reshape(shape)


def library(cuda: Cuda, version: str = "1.0", loads: bool = True) -> Any:
    """`tensorrt` as far as the runner uses it."""
    names = (*INPUTS, *OUTPUTS)
    shapes = {"tokens": (-1, -1, 2), "pooled": (-1, 1)}
    loaded = SimpleNamespace(
        num_io_tensors=len(names),
        get_tensor_name=lambda i: names[i],
        get_tensor_mode=lambda n: "in" if n in INPUTS else "out",
        get_tensor_shape=lambda n: shapes.get(n, (-1, -1)),
        get_tensor_dtype=lambda n: np.int64 if n in INPUTS else np.float32,
        device_memory_size_v2=SCRATCH_BYTES,
        create_execution_context=lambda strategy: Context(cuda) if strategy == "given" else None,
    )
    logger = type("Logger", (), {"ERROR": 0, "__init__": lambda self, _level: None})
    runtime = SimpleNamespace(deserialize_cuda_engine=lambda _bytes: loaded if loads else None)
    return SimpleNamespace(
        __name__="tensorrt_rtx",
        __version__=version,
        Logger=logger,
        Runtime=lambda _log: runtime,
        TensorIOMode=SimpleNamespace(INPUT="in"),
        ExecutionContextAllocationStrategy=SimpleNamespace(USER_MANAGED="given"),
        nptype=lambda dtype: dtype,
    )


@pytest.fixture
def path(tmp_path: Path) -> Path:
    return write(tmp_path)


def write(directory: Path) -> Path:
    file = directory / "model.engine"
    file.write_bytes(b"vtrt" + bytes(60))
    plan = {
        "library": "tensorrt_rtx", "inputs": INPUTS, "outputs": {"tokens": 1, "pooled": None}, "profiles": PROFILES,
        "settings": {
            "gpus": [], "version_compatible": False, "hardware": "none", "stripped": False, "level": None, "kernels": False,
        },
    }  # fmt: skip
    (directory / "plan.json").write_text(json.dumps(plan))
    record = {
        "library": "tensorrt_rtx", "version": "1.0", "gpus": ["sm_89"], "bytes": 64, "version_compatible": False,
        "hardware": "none",
    }  # fmt: skip
    (directory / "model.json").write_text(json.dumps(record))
    return file


def opened(path: Path, monkeypatch: Any, cuda: Cuda, *, regroup: bool, **changes: Any) -> engine.EngineRunner:
    monkeypatch.setattr(engine, "import_module", lambda _name: library(cuda, **changes))
    return engine.open_engine(path, {"regroup": regroup}, cuda=cuda)


def feeds(lengths: list[int], extra: int = 0) -> dict[str, np.ndarray]:
    mask = (np.arange(max(lengths) + extra) < np.array(lengths)[:, None]).astype(np.int64)
    ids = np.random.default_rng(len(lengths)).integers(1, 1000, mask.shape)
    return {"input_ids": ids, "attention_mask": mask}


def check(runner: engine.EngineRunner, given_: dict[str, np.ndarray]) -> None:
    got = runner.run(given_)
    ids, mask = given_["input_ids"], given_["attention_mask"]
    real = mask.astype(bool)
    assert got["tokens"].shape == (*ids.shape, 2)
    np.testing.assert_array_equal(got["tokens"][real], np.stack([ids, mask], axis=-1)[real])
    np.testing.assert_array_equal(got["pooled"][:, 0], (ids * mask).sum(axis=1))


@settings(max_examples=40, deadline=None)
@given(
    st.lists(st.lists(st.integers(1, 24), min_size=1, max_size=11), min_size=1, max_size=4),
    st.integers(0, 3),
    st.booleans(),
)
def test_any_batch_is_answered_against_a_stand_in_for_the_gpu(
    tmp_path_factory: pytest.TempPathFactory, batches: list[list[int]], extra: int, regroup: bool
) -> None:
    cuda = Cuda()
    with pytest.MonkeyPatch.context() as patch:
        runner = opened(write(tmp_path_factory.mktemp("engine")), patch, cuda, regroup=regroup)
    for lengths in batches:
        extra_ = min(extra, 24 - max(lengths))
        check(runner, feeds(lengths, extra_))
    assert cuda.allocations == 2 * len((*INPUTS, *OUTPUTS)) + 1 and len(cuda.scratch) == 1
    assert cuda.captures <= (
        12 if regroup else 0
    )  # three paddings of the batch (1, 2, 4), of the length 8, 12, 16 and 24


def test_a_shape_is_captured_once_and_replayed_against_a_stand_in_for_the_gpu(path: Path, monkeypatch) -> None:
    cuda = Cuda()
    runner = opened(path, monkeypatch, cuda, regroup=True)
    for lengths in ([3, 5], [8, 1], [7, 7]):
        check(runner, feeds(lengths))
    assert (cuda.captures, cuda.launches) == (1, 2)
    check(runner, feeds([3, 20]))
    assert (cuda.captures, cuda.launches) == (3, 2)


class Config:
    """`IRuntimeConfig` of TensorRT-RTX."""

    dynamic_shapes_kernel_specialization_strategy = "lazy"
    memory = cache = None

    def set_execution_context_allocation_strategy(self, memory: str) -> None:
        self.memory = memory

    def create_runtime_cache(self) -> object:
        return object()

    def set_runtime_cache(self, cache: object) -> bool:
        self.cache = cache
        return True


@pytest.mark.parametrize(
    ("regroup", "capturable", "kernels", "captures"),
    [(True, True, "eager", 3), (True, False, "eager", 0), (False, True, "lazy", 0)],
)
def test_rtx_captures_only_the_kernels_of_the_shape_and_only_where_it_can(
    path: Path, monkeypatch, regroup: bool, capturable: bool, kernels: str, captures: int
) -> None:
    cuda, configs = Cuda(), []
    stand_in = library(cuda)
    stand_in.DynamicShapesKernelSpecializationStrategy = SimpleNamespace(EAGER="eager")
    loaded = stand_in.Runtime(None).deserialize_cuda_engine(b"")
    loaded.create_runtime_config = Config

    def create(config: Config) -> Context:
        configs.append(config)
        context = Context(cuda)
        context.is_stream_capturable = lambda _stream: capturable
        return context

    loaded.create_execution_context = create
    monkeypatch.setattr(engine, "import_module", lambda _name: stand_in)
    runner = engine.open_engine(path, {"regroup": regroup}, cuda=cuda)
    for lengths in ([3, 5], [8, 1], [3, 20]):
        check(runner, feeds(lengths))
    assert {(c.memory, c.dynamic_shapes_kernel_specialization_strategy) for c in configs} == {("given", kernels)}
    assert len({id(c.cache) for c in configs}) == 1 and configs[0].cache is not None
    assert (cuda.captures, len(cuda.scratch)) == (captures, 1)


def test_a_context_that_finds_no_room_is_said(path: Path, monkeypatch) -> None:
    cuda = Cuda()
    runner = opened(path, monkeypatch, cuda, regroup=True)
    runner.engine.create_execution_context = lambda _how: None
    with pytest.raises(TargetError, match="no room on this GPU"):
        runner.run(feeds([3]))


def test_short_texts_of_a_wide_profile_are_not_padded_to_its_end(path: Path, monkeypatch) -> None:
    cuda = Cuda()
    runner = opened(path, monkeypatch, cuda, regroup=True)
    shapes: list[tuple[int, int]] = []
    launch = runner._launch
    monkeypatch.setattr(runner, "_launch", lambda execution, shape: shapes.append(shape) or launch(execution, shape))
    for length in (3, 10, 13, 17):
        check(runner, feeds([length]))
    assert shapes == [(1, 8), (1, 12), (1, 16), (1, 24)]


def test_rungs_waste_less_than_half_and_are_few() -> None:
    rungs = {engine.rung(n) for n in range(1, 513)}
    assert len(rungs) == 13 and max(rungs) == 512
    assert all(n <= engine.rung(n) < 1.5 * n for n in range(9, 513))


def test_what_is_longer_than_every_profile_is_refused(path: Path, monkeypatch) -> None:
    runner = opened(path, monkeypatch, Cuda(), regroup=True)
    with pytest.raises(UsageError, match="25 tokens: this engine takes up to 24"):
        runner.run(feeds([25]))


def test_another_gpu_or_version_is_one_sentence_with_the_way_out(path: Path, monkeypatch) -> None:
    with pytest.raises(TargetError, match=r"built for sm_89, and this GPU is sm_90; .*build_engine\.py"):
        opened(path, monkeypatch, Cuda((9, 0)), regroup=True)
    with pytest.raises(TargetError, match=r"built by tensorrt_rtx 1\.0, and this is 2\.0, .*build_engine\.py"):
        opened(path, monkeypatch, Cuda(), regroup=True, version="2.0")
    with pytest.raises(TargetError, match=r"cannot load it on this GPU; .*build_engine\.py"):
        opened(path, monkeypatch, Cuda(), regroup=True, loads=False)


def plan_says(path: Path, **settings_: bool) -> None:
    plan = json.loads(path.with_name("plan.json").read_text())
    path.with_name("plan.json").write_text(json.dumps(plan | {"settings": plan["settings"] | settings_}))


@pytest.mark.parametrize(("fits", "by_trtexec"), [(True, False), (False, False), (True, True)])
def test_an_engine_without_weights_is_refitted_from_the_graph(
    path: Path, monkeypatch, fits: bool, by_trtexec: bool
) -> None:
    if by_trtexec:  # which writes no record
        path.with_suffix(".json").unlink()
        plan_says(path, stripped=True)
    else:
        record = json.loads(path.with_suffix(".json").read_text()) | {"stripped": True}
        path.with_suffix(".json").write_text(json.dumps(record))
    asked: list[str] = []
    cuda = Cuda()
    stand_in = library(cuda)
    stand_in.Refitter = lambda _engine, _log: SimpleNamespace(refit_cuda_engine=lambda: True)
    stand_in.OnnxParserRefitter = lambda _r, _log: SimpleNamespace(refit_from_file=lambda p: asked.append(p) or fits)
    monkeypatch.setattr(engine, "import_module", lambda _name: stand_in)
    if fits:
        check(engine.open_engine(path, {"regroup": True}, cuda=cuda), feeds([3, 4]))
    else:
        with pytest.raises(TargetError, match="do not fit"):
            engine.open_engine(path, {"regroup": True}, cuda=cuda)
    assert asked == [str(path.with_name("model.onnx"))]


def test_kernels_by_length_refuse_padding_before_text(path: Path, monkeypatch) -> None:
    plan_says(path, kernels=True)
    runner = opened(path, monkeypatch, Cuda(), regroup=True)
    given_ = feeds([3, 5])
    check(runner, given_)
    given_["attention_mask"] = given_["attention_mask"][:, ::-1].copy()
    with pytest.raises(UsageError, match="row 0: padding stands before a token"):
        runner.run(given_)


def test_a_failing_call_is_named(path: Path, monkeypatch) -> None:
    cuda = Cuda()
    monkeypatch.setattr(cuda, "cudaMalloc", lambda _n: (2, None))
    with pytest.raises(TargetError, match="cudaMalloc failed: 2"):
        opened(path, monkeypatch, cuda, regroup=True)


def test_without_the_library_the_package_and_version_are_named(path: Path, monkeypatch) -> None:
    def absent(name: str) -> None:
        raise ImportError(f"No module named {name!r}")

    monkeypatch.setattr(engine, "import_module", absent)
    with pytest.raises(TargetError, match=r"pip install 'tensorrt-rtx==1\.0'"):
        engine.open_engine(path, {})
