"""Time the CPU kernels against ONNX Runtime's own operators and torch, paired, and against the limits of memory and arithmetic.

The limit is the time of copying the same bytes (softmax) or the rate of a large matmul (attention), measured in the same
rounds. Needs onnx; torch takes part where it is installed.
"""

import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

import numpy as np

from . import DOMAIN, MISSING, library_path

Run = Callable[[], object]

SOFTMAX = ((12, 128, 128), (96, 128, 128), (12, 512, 512), (16, 1024, 1024))
ATTENTION = ((1, 128, 12, 32), (8, 128, 12, 32), (1, 512, 12, 32), (1, 128, 12, 64), (1, 512, 12, 64))
ROWS = ((32, 384), (1024, 384), (1024, 768))
SHARES = (0.0, 0.25, 0.5, 0.75)
SETTLE_SECONDS = 5e-3


@dataclass
class Measured:
    """One case of one operator: milliseconds of each implementation per round; `limit` names what bounds it."""

    op: str
    case: str
    limit: str
    milliseconds: dict[str, list[float]] = field(default_factory=dict)
    limit_ms: float = 0.0

    def median(self, name: str) -> float:
        """Return the median time of an implementation in milliseconds."""
        return float(np.median(self.milliseconds[name]))

    def share(self, name: str) -> float:
        """Return the fraction of the limit that an implementation reaches."""
        return self.limit_ms / self.median(name)

    def ratio(self, name: str) -> float:
        """Return how many times as long an implementation takes as Headway's."""
        return self.median(name) / self.median("headway")

    def to_json(self) -> dict[str, Any]:
        """Return everything measured, with medians and ratios, as JSON."""
        return {
            "op": self.op,
            "case": self.case,
            "limit": self.limit,
            "limit_ms": self.limit_ms,
            "p50_ms": {n: self.median(n) for n in self.milliseconds},
            "share": {n: self.share(n) for n in self.milliseconds},
            "times_as_long": {n: self.ratio(n) for n in self.milliseconds},
            "milliseconds": self.milliseconds,
        }


def measure(threads: int = 1, rounds: int = 30, seconds: float = 3.0) -> Iterator[Measured]:
    """Measure every case in turn; each round times every implementation once, in rotating order.

    Each implementation runs untimed for some milliseconds right before it is timed, because the others leave their data in the
    caches. After ONNX Runtime worked on wide padded batches it takes several calls until that is gone.
    """
    rng = np.random.default_rng(0)
    for shape in SOFTMAX:
        yield _paired(*_softmax(shape, threads, rng), rounds, seconds, threads)
    for rows, hidden in ROWS:
        yield _paired(*_norm(rows, hidden, threads, rng), rounds, seconds, threads)
    for rows, hidden in ROWS:
        yield _paired(*_gelu(rows, 4 * hidden, threads, rng), rounds, seconds, threads)
    rate = _matmul_rate(threads)
    for batch, length, heads, head_dim in ATTENTION:
        name, runs = _attention(batch, length, heads, head_dim, threads, rng)
        measured = _paired(Measured("attention", name, "matmul"), runs, rounds, seconds, threads)
        measured.limit_ms = 4e3 * batch * length * length * heads * head_dim / rate
        yield measured
    for share in SHARES:
        name, runs = _padded(share, threads, rng)
        yield _paired(Measured("attention by padding", name, "no padding"), runs, rounds, seconds, threads)


def _paired(measured: Measured, runs: dict[str, Run], rounds: int, seconds: float, threads: int) -> Measured:
    limit = runs.pop("limit", None)
    contestants = [*runs.items(), *([("limit", limit)] if limit else [])]
    times: dict[str, list[float]] = {n: [] for n, _ in contestants}
    # With one thread it is the caller's own: its processor time does not count what other processes do meanwhile.
    now = time.thread_time_ns if threads == 1 else time.perf_counter_ns
    began = time.perf_counter()
    for turn in range(rounds):
        if turn >= 5 and time.perf_counter() - began > seconds:
            break
        for i in range(len(contestants)):
            name, run = contestants[(i + turn) % len(contestants)]
            if threads > 1:
                time.sleep(0.06)  # the runtime's threads spin for a while and would take the next one's processor
            settled = time.perf_counter() + SETTLE_SECONDS
            run()
            while time.perf_counter() < settled:
                run()
            start = now()
            run()
            times[name].append((now() - start) / 1e6)
    if limit:
        measured.limit_ms = float(np.median(times.pop("limit")))
    measured.milliseconds = times
    return measured


def _session(nodes: Sequence[Any], feeds: Mapping[str, np.ndarray], threads: int) -> Run:
    """Open a graph of these nodes, whose last output is `y`, bound to its inputs."""
    import onnxruntime
    from onnx import helper

    inputs = [
        helper.make_tensor_value_info(n, helper.np_dtype_to_tensor_dtype(a.dtype), [None] * a.ndim)
        for n, a in feeds.items()
    ]
    graph = helper.make_graph(list(nodes), "bench", inputs, [helper.make_tensor_value_info("y", 1, None)])
    opsets = [helper.make_opsetid(d, v) for d, v in (("", 21), (DOMAIN, 1), ("com.microsoft", 1))]
    options = onnxruntime.SessionOptions()
    options.intra_op_num_threads = threads
    options.log_severity_level = 3
    path = library_path()
    if path is None:
        raise RuntimeError(MISSING)
    options.register_custom_ops_library(str(path))
    model = helper.make_model(graph, opset_imports=opsets, ir_version=10).SerializeToString()
    session = onnxruntime.InferenceSession(model, options, providers=["CPUExecutionProvider"])
    binding = session.io_binding()
    for name, array in feeds.items():
        binding.bind_cpu_input(name, array)
    binding.bind_output("y", "cpu")
    return lambda: session.run_with_iobinding(binding)


def _torch(threads: int) -> Any:
    try:
        import torch
    except ImportError:
        return None
    torch.set_num_threads(threads)
    return torch


def _softmax(shape: tuple[int, int, int], threads: int, rng: np.random.Generator) -> tuple[Measured, dict[str, Run]]:
    """Compare the softmax of the scores of all heads with a padding mask, `softmax(scale * x + bias)`; torch's has no mask."""
    from onnx import helper

    x = rng.standard_normal((1, *shape)).astype(np.float32)
    bias = np.where(np.arange(shape[-1]) < 0.9 * shape[-1], 0, -30000).astype(np.float32).reshape(1, 1, 1, -1)
    feeds = {"x": x, "bias": bias}
    scale = helper.make_node("Constant", [], ["scale"], value_float=0.125)
    stock = [
        scale,
        helper.make_node("Mul", ["x", "scale"], ["scaled"]),
        helper.make_node("Add", ["scaled", "bias"], ["scores"]),
        helper.make_node("Softmax", ["scores"], ["y"], axis=-1),
    ]
    ours = helper.make_node("MaskedSoftmax", ["x", "bias"], ["y"], domain=DOMAIN, scale=0.125)
    runs: dict[str, Run] = {
        "headway": _session([ours], feeds, threads),
        "ONNX Runtime": _session(stock, feeds, threads),
    }
    target = np.empty_like(x)
    runs["limit"] = lambda: np.copyto(target, x)
    if (torch := _torch(threads)) is not None:
        source, out = torch.from_numpy(x), torch.empty(x.shape)
        runs["torch softmax"] = lambda: torch.softmax(source, -1, out=out)
        other = torch.empty(x.shape)
        runs["limit"] = lambda: other.copy_(source)
    return Measured("masked softmax", "x".join(map(str, shape)), "copy"), runs


def _norm(rows: int, width: int, threads: int, rng: np.random.Generator) -> tuple[Measured, dict[str, Run]]:
    """Compare a layer norm with the bias and the residual before it."""
    from onnx import helper

    node = helper.make_node
    feeds = {n: rng.standard_normal((rows, width)).astype(np.float32) for n in ("x", "skip")}
    feeds |= {n: rng.standard_normal(width).astype(np.float32) for n in ("gamma", "beta", "bias")}
    ours = node("SkipLayerNormalization", ["x", "skip", "gamma", "beta", "bias"], ["y"], domain=DOMAIN)
    stock = [
        node("Add", ["x", "bias"], ["biased"]),
        node("Add", ["biased", "skip"], ["total"]),
        node("LayerNormalization", ["total", "gamma", "beta"], ["y"]),
    ]
    runs = {"headway": _session([ours], feeds, threads), "ONNX Runtime": _session(stock, feeds, threads)}
    target = np.empty_like(feeds["x"])
    runs["limit"] = lambda: np.add(feeds["x"], feeds["skip"], out=target)
    if (torch := _torch(threads)) is not None:
        x, skip, gamma, beta, bias = (torch.from_numpy(a) for a in feeds.values())
        out = torch.empty(x.shape)
        runs["torch"] = lambda: torch.nn.functional.layer_norm(x + bias + skip, (width,), gamma, beta)
        runs["limit"] = lambda: torch.add(x, skip, out=out)
    return Measured("bias, residual and norm", f"{rows}x{width}", "addition"), runs


def _gelu(rows: int, width: int, threads: int, rng: np.random.Generator) -> tuple[Measured, dict[str, Run]]:
    """Compare the exact GELU with the bias before it."""
    from onnx import helper

    node = helper.make_node
    feeds = {"x": rng.standard_normal((rows, width)).astype(np.float32)}
    feeds["bias"] = rng.standard_normal(width).astype(np.float32)
    ours = node("BiasActivation", ["x", "bias"], ["y"], domain=DOMAIN, activation="gelu")
    stock = [node("Add", ["x", "bias"], ["biased"]), node("Gelu", ["biased"], ["y"], domain="com.microsoft")]
    runs = {"headway": _session([ours], feeds, threads), "ONNX Runtime": _session(stock, feeds, threads)}
    target = np.empty_like(feeds["x"])
    runs["limit"] = lambda: np.copyto(target, feeds["x"])
    if (torch := _torch(threads)) is not None:
        x, bias = (torch.from_numpy(a) for a in feeds.values())
        other = torch.empty(x.shape)
        runs["torch"] = lambda: torch.nn.functional.gelu(x + bias)
        runs["limit"] = lambda: other.copy_(x)
    return Measured("bias and GELU", f"{rows}x{width}", "copy"), runs


def _attention(
    batch: int, length: int, heads: int, head_dim: int, threads: int, rng: np.random.Generator
) -> tuple[str, dict[str, Run]]:
    from onnx import helper

    feeds = {n: rng.standard_normal((batch, length, heads * head_dim)).astype(np.float32) for n in "qkv"}
    ours = helper.make_node("PaddedAttention", list("qkv"), ["y"], domain=DOMAIN, heads=heads)
    stock = helper.make_node("MultiHeadAttention", list("qkv"), ["y"], domain="com.microsoft", num_heads=heads)
    runs = {"headway": _session([ours], feeds, threads), "ONNX Runtime": _session([stock], feeds, threads)}
    if (torch := _torch(threads)) is not None:
        q, k, v = (torch.from_numpy(a).view(batch, length, heads, head_dim).transpose(1, 2) for a in feeds.values())
        runs["torch sdpa"] = lambda: torch.nn.functional.scaled_dot_product_attention(q, k, v)
    return f"{batch}x{length}, {heads} heads of {head_dim}", runs


def _padded(share: float, threads: int, rng: np.random.Generator) -> tuple[str, dict[str, Run]]:
    """Compare attention on 16 sequences of 64 tokens with more and more padding, which packed attention does not see.

    A packed graph removes padding once, and restores it once where an output has tokens: those two are timed as well.
    """
    from onnx import helper

    batch, real, heads, head_dim = 16, 64, 12, 32
    length = round(real / (1 - share))
    feeds = {n: rng.standard_normal((batch, length, heads * head_dim)).astype(np.float32) for n in "qkv"}
    mask = np.broadcast_to(np.arange(length) < real, (batch, length)).astype(np.int64)
    node = helper.make_node
    packed = {f"p{n}": np.ascontiguousarray(feeds[n][:, :real].reshape(batch * real, -1)) for n in "qkv"}
    ends = np.arange(0, batch * real + 1, real, dtype=np.int32)
    alone = node("PackedAttention", ["pq", "pk", "pv", "ends"], ["y"], domain=DOMAIN, heads=heads)
    around = [node("RemovePadding", ["q", "mask"], ["pq", "cq"], domain=DOMAIN)]
    around.append(node("RestorePadding", ["pq", "mask"], ["y"], domain=DOMAIN))
    dense = node("PaddedAttention", [*"qkv", "lengths"], ["y"], domain=DOMAIN, heads=heads)
    stock = node("MultiHeadAttention", [*"qkv", "", "mask"], ["y"], domain="com.microsoft", num_heads=heads)
    lengths = np.full(batch, real, np.int32)
    runs = {
        "headway": _session([alone], packed | {"ends": ends}, threads),
        "headway, padding off and on": _session(around, {"q": feeds["q"], "mask": mask}, threads),
        "headway, padded": _session([dense], feeds | {"lengths": lengths}, threads),
        "ONNX Runtime": _session([stock], feeds | {"mask": mask.astype(np.int32)}, threads),
    }
    return f"{100 * share:.0f} %", runs


def _matmul_rate(threads: int, size: int = 1024) -> float:
    """Return the floating-point operations per second of ONNX Runtime's fastest large matmul out of thirty."""
    from onnx import helper

    rng = np.random.default_rng(0)
    feeds = {n: rng.standard_normal((size, size)).astype(np.float32) for n in "ab"}
    run = _session([helper.make_node("MatMul", list("ab"), ["y"])], feeds, threads)
    times = []
    for _ in range(30):
        start = time.perf_counter()
        run()
        times.append(time.perf_counter() - start)
    return 2 * size**3 / min(times)
