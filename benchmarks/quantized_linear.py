"""The int8 layer against ONNX Runtime's float32 and dynamic int8 matrix products, in the same rounds.

    python -m benchmarks.quantized_linear [--threads 1 2] [--rounds 40]

`avx2` is ours held to AVX2 without products of bytes, as on a processor that has no VNNI; float32 still uses what the processor
has. Outputs are bound, so that what is timed is the operator and not the copy to numpy. One thread is timed by its processor
time, several by the clock. A layer with GELU is `MatMul, Add, Gelu` in ONNX Runtime; a feed-forward is two layers, of which ours
is one operator. Rates are of the fastest tenth of the rounds, ratios of medians.
"""

import argparse
import ctypes
import time
from collections.abc import Callable, Mapping, Sequence

import numpy as np
import onnxruntime
from onnx import NodeProto, TensorProto, helper, numpy_helper
from rich.console import Console
from rich.table import Table

from headway.exporter.bench.measure import IDLE_SECONDS, machine, ratio_interval
from headway.kernels import cpu

from .results import save

SHAPES = ((384, 384), (384, 1536), (1536, 384))
ROWS = (1, 8, 32, 128, 1024)
ROUND_SECONDS = 2e-3
ORT_F32, ORT_INT8, OURS, OURS_AVX2 = "ort float32", "ort dynamic int8", "headway", "headway avx2"
MS = "com.microsoft"
Run = Callable[[], object]


def use(isa: str | None, dot_product: bool) -> str:
    """Kernels made from now on use these instructions; None: keep. Returns what was in use."""
    library = ctypes.CDLL(str(cpu.library_path()))
    library.headway_isa.restype = ctypes.c_char_p
    before = library.headway_isa(None).decode()
    library.headway_isa(isa.encode() if isa else None)
    library.headway_dot_product(int(dot_product))
    return before


def bound(
    nodes: Sequence[NodeProto], weights: Mapping[str, np.ndarray], x: np.ndarray, outputs: int, threads: int
) -> Run:
    """Run nodes from `x` to `y` with both bound to memory of ours."""
    value = helper.make_tensor_value_info
    graph = helper.make_graph(
        nodes,
        "layer",
        [value("x", TensorProto.FLOAT, ["rows", x.shape[1]])],
        [value("y", TensorProto.FLOAT, ["rows", outputs])],
        [numpy_helper.from_array(v, k) for k, v in weights.items()],
    )
    opsets = [helper.make_opsetid("", 20), helper.make_opsetid(MS, 1), helper.make_opsetid(cpu.DOMAIN, 1)]
    options = onnxruntime.SessionOptions()
    options.intra_op_num_threads = threads
    options.register_custom_ops_library(str(cpu.library_path()))
    model = helper.make_model(graph, opset_imports=opsets, ir_version=10).SerializeToString()
    session = onnxruntime.InferenceSession(model, options, providers=["CPUExecutionProvider"])
    y = np.empty((len(x), outputs), np.float32)
    binding = session.io_binding()
    binding.bind_cpu_input("x", x)
    binding.bind_output("y", "cpu", 0, np.float32, y.shape, y.ctypes.data)
    return lambda: (session.run_with_iobinding(binding), y)[1]


def layer(name: str, inputs: int, outputs: int, rng: np.random.Generator) -> dict[str, np.ndarray]:
    """int8 weights, distributed normally as trained ones are about, and what they stand for, named with the prefix `name`."""
    drawn = rng.normal(size=(inputs, outputs))
    weight = np.rint(drawn * (127 / np.abs(drawn).max(0))).astype(np.int8)
    scale = rng.uniform(0.5, 1.5, outputs).astype(np.float32) / np.float32(73 * np.sqrt(inputs))
    return {
        f"{name}q": weight,
        f"{name}s": scale,
        f"{name}w": weight * scale,
        f"{name}z": np.zeros(outputs, np.int8),
        f"{name}b": rng.normal(0, 0.1, outputs).astype(np.float32),
    }


def contestants(kind: str, inputs: int, outputs: int, rows: int, threads: int) -> dict[str, Run]:
    """`kind`: "linear" (with bias), "gelu" (bias and GELU) or "feed-forward" (up, GELU, down, outputs inside)."""
    node, rng = helper.make_node, np.random.default_rng(0)
    x = rng.normal(size=(rows, inputs)).astype(np.float32)
    weights = layer("u", inputs, outputs, rng)
    float32 = [node("MatMul", ["x", "uw"], ["um"]), node("Add", ["um", "ub"], ["y" if kind == "linear" else "ua"])]
    last = float32[-1].output[0]
    int8 = [node("DynamicQuantizeMatMul", ["x", "uq", "us", "uz", "ub"], [last], domain=MS)]
    ours = {"activation": "none" if kind == "linear" else "gelu"}
    mine = [node("QuantizedLinear", ["x", "uq", "us", "ub"], ["y"], domain=cpu.DOMAIN, **ours)]
    width = outputs
    if kind != "linear":
        rest = [node("Gelu", ["ua"], ["y" if kind == "gelu" else "ug"], domain=MS)]
        float32, int8 = float32 + rest, int8 + rest
    if kind == "feed-forward":
        weights |= layer("d", outputs, inputs, rng)
        float32 += [node("MatMul", ["ug", "dw"], ["dm"]), node("Add", ["dm", "db"], ["y"])]
        int8 += [node("DynamicQuantizeMatMul", ["ug", "dq", "ds", "dz", "db"], ["y"], domain=MS)]
        names = ["x", "uq", "us", "ub", "dq", "ds", "db"]
        mine, width = [node("QuantizedFeedForward", names, ["y"], domain=cpu.DOMAIN)], inputs

    def opened(nodes: list[NodeProto]) -> Run:
        used = {n for each in nodes for n in each.input}
        return bound(nodes, {k: v for k, v in weights.items() if k in used}, x, width, threads)

    runs = {ORT_F32: opened(float32), ORT_INT8: opened(int8), OURS: opened(mine)}
    before = use("avx2", dot_product=False)
    runs[OURS_AVX2] = opened(mine)
    use(before, dot_product=True)
    exact = runs[ORT_F32]()
    for name, run in runs.items():
        error = np.linalg.norm(run() - exact) / np.linalg.norm(exact)  # type: ignore[operator]
        if error > 0.03:
            raise RuntimeError(f"{name} is {error:.1%} away from float32 in {kind} {inputs}x{outputs}")
    return runs


def timed(runs: Mapping[str, Run], rounds: int, threads: int) -> dict[str, np.ndarray]:
    """Milliseconds of one call, `[rounds]` each. ONNX Runtime's only thread is the caller's: what others do then does not count."""
    now = time.thread_time if threads == 1 else time.perf_counter
    times: dict[str, list[float]] = {name: [] for name in runs}
    calls = {}
    for name, run in runs.items():
        start = now()
        run()
        calls[name] = max(1, int(ROUND_SECONDS / (now() - start)))
    for turn in range(rounds):
        order = list(runs)[turn % len(runs) :] + list(runs)[: turn % len(runs)]
        for name in order:
            if threads > 1:
                time.sleep(IDLE_SECONDS / 2)
            runs[name]()
            start = now()
            for _ in range(calls[name]):
                runs[name]()
            times[name].append((now() - start) / calls[name] * 1e3)
    return {name: np.array(each) for name, each in times.items()}


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--threads", type=int, nargs="+", default=[1, 2])
    parser.add_argument("--rounds", type=int, default=40)
    arguments = parser.parse_args()
    if cpu.library_path() is None:
        raise SystemExit("the kernels were not built: python kernels/cpu/build.py")
    cases = [("linear", *shape) for shape in SHAPES] + [("gelu", 384, 1536), ("feed-forward", 384, 1536)]
    console = Console(width=170)
    for threads in arguments.threads:
        table = Table("op", "K x N", "rows", *(f"{n} GOP/s" for n in (ORT_F32, ORT_INT8, OURS, OURS_AVX2)))
        for heading in ("int8 / ours", "float32 / ours", "float32 / avx2"):
            table.add_column(heading, justify="right")
        found = []
        for kind, inputs, outputs in cases:
            for rows in ROWS:
                times = timed(contestants(kind, inputs, outputs, rows, threads), arguments.rounds, threads)
                operations = 2 * rows * inputs * outputs * (2 if kind == "feed-forward" else 1)
                rates = {n: operations / float(np.quantile(t, 0.1)) / 1e6 for n, t in times.items()}
                ratios = {
                    "int8/headway": ratio_interval(times[OURS], times[ORT_INT8]),
                    "float32/headway": ratio_interval(times[OURS], times[ORT_F32]),
                    "float32/avx2": ratio_interval(times[OURS_AVX2], times[ORT_F32]),
                    "int8/avx2": ratio_interval(times[OURS_AVX2], times[ORT_INT8]),
                }
                found.append(
                    {"op": kind, "inputs": inputs, "outputs": outputs, "rows": rows, "threads": threads}
                    | {"gops": rates, "ratios": ratios}
                    | {"p50_ms": {n: float(np.median(t)) for n, t in times.items()}}
                )
                shown = [f"{low[0]:.2f} [{low[1]:.2f}, {low[2]:.2f}]" for low in list(ratios.values())[:3]]
                table.add_row(kind, f"{inputs} x {outputs}", str(rows), *(f"{r:.0f}" for r in rates.values()), *shown)
        console.print(f"{threads} thread(s)", table)
        means = {
            kind: float(np.exp(np.mean([np.log(r["ratios"]["int8/headway"][0]) for r in found if r["op"] == kind])))
            for kind in ("linear", "gelu", "feed-forward")
        }
        console.print("geometric mean, dynamic int8 / ours:", means)
        content = {"rows": found, "geometric_mean": means, "rounds": arguments.rounds, "machine": machine()}
        console.print(save(f"quantized-linear-{threads}-threads", content))


if __name__ == "__main__":
    main()
