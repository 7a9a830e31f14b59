"""The perf tools of the runtimes on phones: how each is called on a device, and how its output is read.

Only what a tool reports is recorded: no percentile is made up from a mean.
"""

import re
from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any, Protocol

import numpy as np

from ...processor import X64_PRECISION

RESULTS = "results.csv"
"""The file that a tool may write, in the folder where it runs."""


@dataclass
class Timing:
    """What a tool reported of its runs, in milliseconds.

    `statistics` are by name (mean, p50, p90, p95, p99, min, max); `each` are the single runs, where it reports them.
    """

    runs: int
    statistics: dict[str, float] = field(default_factory=dict)
    each: list[float] = field(default_factory=list)


@dataclass(frozen=True)
class ToolCase:
    """One case for a tool: the artifact's name in the remote folder, inputs by name, and how to run them."""

    artifact: str
    inputs: Mapping[str, np.ndarray]
    runs: int
    threads: int
    options: Mapping[str, Any]
    longest: int


class Tool(Protocol):
    """A runtime's own perf tool: how it is called and how its output is read."""

    name: str
    source: str

    def files(self, case: ToolCase) -> dict[str, bytes]:
        """Return the files that it needs beside the artifact, by their place in the remote folder."""

    def arguments(self, case: ToolCase) -> list[str]:
        """Return the words of its command line, to be run in that folder."""

    def read(self, printed: str, results: str) -> Timing | None:
        """Return the times in what it printed and in its file `RESULTS` (empty where it writes none); None without times."""


class PerfTest:
    """`onnxruntime_perf_test`, for `.onnx` and `.ort`. Seconds; each run in its result file, statistics printed."""

    name = "onnxruntime_perf_test"
    source = (
        "ONNX Runtime builds it with its tests: ./build.sh --android --android_abi arm64-v8a --android_api 27 --config Release "
        "--android_sdk_path … --android_ndk_path …; with --build_shared_lib give libonnxruntime.so as a second --tool"
    )

    def files(self, case: ToolCase) -> dict[str, bytes]:
        """Return what ONNX's test runner reads: a folder beside the model, with one TensorProto for each input."""
        return {
            f"test_data_set_0/input_{i}.pb": tensor_proto(name, array)
            for i, (name, array) in enumerate(case.inputs.items())
        }

    def arguments(self, case: ToolCase) -> list[str]:
        level = {"all": "99", "none": "0"}[case.options.get("graph_optimization_level", "all")]
        config = {k: v for k, v in case.options.get("config", {}).items() if k != X64_PRECISION}
        if case.options.get("disabled_optimizers"):
            config["optimization.disable_specified_optimizers"] = ";".join(case.options["disabled_optimizers"])
        entries = ["-C", " ".join(f"{k}|{v}" for k, v in config.items())] if config else []
        runs = ["-m", "times", "-r", str(case.runs)]
        return ["-e", "cpu", *runs, "-x", str(case.threads), "-o", level, *entries, "-s", case.artifact, RESULTS]

    def read(self, printed: str, results: str) -> Timing | None:
        mean = re.search(r"Average inference time cost(?: total)?:\s*([\d.e+-]+) ms", printed)
        if mean is None:
            return None
        statistics = {"mean": float(mean[1])}
        for name, seconds in re.findall(r"^(Min|Max|P50|P90|P95|P99) Latency: ([\d.e+-]+) s", printed, re.MULTILINE):
            statistics[name.lower()] = float(seconds) * 1e3
        # model, seconds, bytes, percent, number of the run
        rows = re.findall(r"^[^,\n]*,([\d.e+-]+),\d+,-?\d+,\d+\r?$", results, re.MULTILINE)
        each = [float(seconds) * 1e3 for seconds in rows]
        if each and abs(np.mean(each) - statistics["mean"]) > 0.02 * statistics["mean"]:
            each = []  # of another unit or another run: what was printed counts
        requests = re.search(r"Total inference requests: (\d+)", printed)
        return Timing(int(requests[1]) if requests else len(each), statistics, each)


class BenchmarkModel:
    """TensorFlow Lite's `benchmark_model`, for `.tflite`. Microseconds; one line of statistics for the warm-up, then one for the runs."""

    name = "benchmark_model"
    source = "TensorFlow Lite builds it: bazel build -c opt --config=android_arm64 //tensorflow/lite/tools/benchmark:benchmark_model"

    def files(self, case: ToolCase) -> dict[str, bytes]:
        return {f"{i}.bin": array.tobytes() for i, array in enumerate(case.inputs.values())}

    def arguments(self, case: ToolCase) -> list[str]:
        names = [name.replace(":", "::") for name in case.inputs]
        shapes = [",".join(map(str, array.shape)) for array in case.inputs.values()]
        signature = case.options.get("signature")
        return [
            f"--graph={case.artifact}",
            f"--num_threads={case.threads}",
            f"--num_runs={case.runs}",
            "--warmup_runs=5",
            f"--input_layer={','.join(case.inputs)}",
            f"--input_layer_shape={':'.join(shapes)}",
            f"--input_layer_value_files={','.join(f'{name}:{i}.bin' for i, name in enumerate(names))}",
            *([f"--signature_to_run_for={signature}"] if signature else []),
        ]

    def read(self, printed: str, results: str) -> Timing | None:
        lines = re.findall(r"\bcount=(\d+)((?: \w+=[\d.e+-]+)*)", printed)
        if not lines or "Inference timings in us:" not in printed:
            return None
        count, pairs = lines[-1]
        reported = {k: float(v) / 1e3 for k, v in (pair.split("=") for pair in pairs.split())}
        names = {"avg": "mean", "median": "p50", "p95": "p95", "min": "min", "max": "max"}
        statistics = {ours: reported[theirs] for theirs, ours in names.items() if theirs in reported}
        return Timing(int(count), statistics or {"mean": reported["curr"]})


class ExecutorRunner:
    """ExecuTorch's `executor_runner`, for `.pte`. Milliseconds: each run in newer versions (the first is the warm-up), else their sum.

    It logs to standard error, or, built with its Android preset, to the device's log, without file and line.
    """

    name = "executor_runner"
    source = (
        "ExecuTorch builds it: cmake with the preset android-arm64-v8a, -DEXECUTORCH_BUILD_EXECUTOR_RUNNER=ON and "
        "-DEXECUTORCH_BUILD_EXTENSION_EVALUE_UTIL=ON, target executor_runner"
    )

    def files(self, case: ToolCase) -> dict[str, bytes]:
        """Return inputs as long as the program allows; what a shorter case leaves over is not read."""
        files = {}
        for i, array in enumerate(case.inputs.values()):
            padded = np.zeros((*array.shape[:-1], case.longest), array.dtype)
            padded[..., : array.shape[-1]] = array
            files[f"{i}.bin"] = (array if self._full_length(case) else padded).tobytes()
        return files

    def arguments(self, case: ToolCase) -> list[str]:
        shapes = ",".join("x".join(map(str, array.shape)) for array in case.inputs.values())
        return [
            f"--model_path={case.artifact}",
            f"--num_executions={case.runs + 1}",
            f"--cpu_threads={case.threads}",
            f"--inputs={','.join(f'{i}.bin' for i in range(len(case.inputs)))}",
            *([] if self._full_length(case) else [f"--input_shapes={shapes}"]),
        ]

    def read(self, printed: str, results: str) -> Timing | None:
        each = [float(ms) for ms in re.findall(r"Iteration \d+ of \d+: ([\d.]+) ms", printed)]
        if len(each) > 1:
            return Timing(len(each) - 1, {}, each[1:])
        total = re.search(r"Model executed successfully (\d+) time\(s\) in ([\d.]+) ms", printed)
        if total is None or int(total[1]) == 0:
            return None
        return Timing(int(total[1]), {"mean": float(total[2]) / int(total[1])})

    @staticmethod
    def _full_length(case: ToolCase) -> bool:
        return all(array.shape[-1] == case.longest for array in case.inputs.values())


TOOLS: dict[str, Tool] = {
    ".onnx": PerfTest(),
    ".ort": PerfTest(),
    ".tflite": BenchmarkModel(),
    ".pte": ExecutorRunner(),
}


def tensor_proto(name: str, array: np.ndarray) -> bytes:
    """Return an ONNX TensorProto of int64, int32 or float32 in protobuf's wire format: deployed machines need no onnx for it."""

    def varint(value: int) -> bytes:
        out = bytearray()
        while value > 127:
            out.append(value & 127 | 128)
            value >>= 7
        return bytes([*out, value])

    def field_of(number: int, content: bytes) -> bytes:
        return varint(number << 3 | 2) + varint(len(content)) + content

    kind = {"float32": 1, "int32": 6, "int64": 7}[array.dtype.name]
    dims = b"".join(varint(1 << 3) + varint(n) for n in array.shape)
    little = array.astype(array.dtype.newbyteorder("<")).tobytes()
    return dims + varint(2 << 3) + varint(kind) + field_of(8, name.encode()) + field_of(9, little)
