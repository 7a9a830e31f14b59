"""Checks and times the Triton kernels on the GPU at hand; needs torch and triton, nothing else.

    python benchmarks/gpu/kernels.py            # check, measure, print a table, write benchmarks/results/gpu-kernels-DEVICE.json
    python benchmarks/gpu/kernels.py --tune     # time the candidate tiles first and record the best in kernels/triton/configs.json

Every kernel is compared with its definition in float64. Then contestants take turns, round after round, each round a CUDA graph of
several launches, so that the host's own time does not count; medians, and bootstrap intervals of ratios. The limit is the longer of
two times measured on the same device in the same rounds: to copy as many bytes as the operation has to read and write, and to
multiply matrices with as many operations. A case that the result file holds for this code is not measured again: an
interrupted run goes on where it stopped. `--again` measures all.
"""

import argparse
import hashlib
import importlib.util
import json
import math
import re
import statistics
import sys
import time
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path
from types import ModuleType
from typing import Any

ROOT = Path(__file__).resolve().parents[2]
RESULTS = ROOT / "benchmarks" / "results"
NOT_AVAILABLE = 4
"""Exit code where the device is missing, as that of the command line."""

ROUNDS = 15
SECONDS = 0.004
"""A round of one contestant lasts at least this long."""

DEVICE = "cuda"
PRODUCT = 4096
"""Side of the matrices whose product is the limit of arithmetic."""


def kernel_modules() -> tuple[ModuleType, ModuleType, ModuleType]:
    """`configs`, `softmax`, `attention` of this checkout, installed or not; nothing else of Headway is imported."""
    if importlib.util.find_spec("headway") is None:
        sys.path.insert(0, str(ROOT))
    import headway

    if "headway.kernels" not in sys.modules:
        place = ROOT / "kernels"
        spec = importlib.util.spec_from_file_location(
            "headway.kernels", place / "__init__.py", submodule_search_locations=[str(place)]
        )
        assert spec is not None and spec.loader is not None
        module = importlib.util.module_from_spec(spec)
        sys.modules["headway.kernels"] = module
        spec.loader.exec_module(module)
        headway.kernels = module  # type: ignore[attr-defined]
    names = ("configs", "softmax", "attention")
    configs, softmax, attention = (importlib.import_module(f"headway.kernels.triton.{name}") for name in names)
    return configs, softmax, attention


# Definitions, in float64.


def define_softmax(x: Any, bias: Any = None, scale: float = 1.0) -> Any:
    scores = scale * x.double()
    if bias is not None:
        scores = scores + bias.double()
    peak = scores.amax(-1, keepdim=True)
    weights = (scores - peak.masked_fill(peak == -math.inf, 0.0)).exp()
    total = weights.sum(-1, keepdim=True)
    return weights / total.masked_fill(total == 0, 1.0)


def define_attention(
    q: Any, k: Any, v: Any, starts: list[int], ends: list[int], heads: int, scale: float, bias: Any, causal: bool
) -> Any:
    """Rows of `[tokens, heads * head_dim]`; sequence `s` is rows `starts[s]` to `ends[s]`, what lies between gives zeros."""
    out = q.new_zeros(q.shape).double()
    for start, end in zip(starts, ends, strict=True):
        if start == end:
            continue
        parts = [each[start:end].double().view(end - start, heads, -1).transpose(0, 1) for each in (q, k, v)]
        added = q.new_zeros(1, end - start, end - start).double()
        if bias is not None:
            added = added + bias[:, : end - start, : end - start].double()
        if causal:
            added = added + added.new_full(added.shape[1:], -math.inf).triu(1)
        weights = define_softmax(parts[0] @ parts[1].transpose(1, 2), added, scale)
        out[start:end] = (weights @ parts[2]).transpose(0, 1).reshape(end - start, -1)
    return out


# Checks. Each yields what was checked, the largest error, and the bound that rounding allows.


@dataclass(frozen=True)
class Check:
    name: str
    error: float
    bound: float

    @property
    def ok(self) -> bool:
        return self.error <= self.bound


def precision(dtype: Any) -> float:
    """Half a unit in the last place of numbers near one."""
    import torch

    return torch.finfo(dtype).eps / 2


def softmax_bound(x: Any, bias: Any, scale: float) -> float:
    """Scores are float32: their rounding, twice, is the relative error of an exponential; then the result is rounded."""
    import torch

    finite = x[x.isfinite()].abs().amax().item() if x.isfinite().any() else 0.0
    largest = abs(scale) * finite
    if bias is not None and bias.isfinite().any():
        largest += bias[bias.isfinite()].abs().amax().item()
    return 8 * 2**-23 * (1 + largest) + precision(x.dtype) + torch.finfo(x.dtype).smallest_normal


def attention_bound(q: Any, k: Any, v: Any, heads: int, scale: float, bias: Any) -> float:
    """Return the same, with weights rounded to the inputs' type before they multiply the values."""
    rows = q.shape[0]
    norms = [each.float().reshape(rows, heads, -1).norm(dim=-1).amax().item() for each in (q, k)]
    largest = abs(scale) * norms[0] * norms[1]
    if bias is not None and bias.isfinite().any():
        largest += bias[bias.isfinite()].abs().amax().item()
    return v.abs().amax().item() * (8 * 2**-23 * (1 + largest) + 3 * precision(q.dtype))


def check_softmax(device: str, tiny: bool = False) -> Iterator[Check]:
    import torch

    _, softmax, _ = kernel_modules()
    draw = torch.Generator(device).manual_seed(0)
    columns = (1, 5, 40) if tiny else (1, 2, 31, 64, 127, 128, 384, 512, 1000, 1024, 4096, 8193, 16_384, 20_001)
    for dtype in (torch.float16, torch.bfloat16, torch.float32):
        for n in columns:
            shape = (2, 3, 2 if tiny else 64, n)
            if n > 8192:
                shape = (1, 2, 8, n)
            x = torch.randn(shape, generator=draw, device=device).to(dtype)
            padding = torch.zeros(shape[0], 1, 1, n, device=device, dtype=dtype)
            padding[0, ..., max(1, n // 2) :] = -math.inf
            padding[-1] = -math.inf
            position = torch.randn((1, *shape[1:]), generator=draw, device=device).to(dtype)
            for label, bias, scale in (
                ("no bias", None, 0.125), ("padding, a masked row", padding, 0.125), ("by position", position, 1.0),
                ("scale 1e4", None, 1e4),
            ):  # fmt: skip
                got, want = softmax.masked_softmax(x, bias, scale), define_softmax(x, bias, scale)
                name = f"softmax {n} columns, {label}, {str(dtype)[6:]}"
                yield Check(name, (got.double() - want).abs().amax().item(), softmax_bound(x, bias, scale))
    x = torch.randn(4, 37, generator=draw, device=device)
    x[0, 3], x[1, 4], x[2], x[3, :30] = math.inf, math.nan, -math.inf, 1e-45
    got = softmax.masked_softmax(x)
    odd = float(not (got[:2].isnan().all() and (got[2] == 0).all() and got[3].isfinite().all()))
    yield Check("softmax of inf and nan is nan, of -inf zero", odd, 0.0)


def check_attention(device: str, tiny: bool = False) -> Iterator[Check]:
    import torch

    configs, _, attention = kernel_modules()
    draw = torch.Generator(device).manual_seed(1)
    batches = [[3, 0, 17, 1]] if tiny else [[1, 2, 0, 31, 64, 65, 127, 7], [512, 33, 384], [4096], [1] * 300, [0, 0]]
    some = ((16, 1), (26, 2)) if tiny else ((26, 12), (64, 2))  # each is compiled for itself: a second or more
    every = some if tiny else ((16, 4), (24, 3), (26, 12), (32, 11), (48, 5), (64, 12), (80, 2), (96, 3), (128, 2))
    tile = configs.AttentionConfig(16, 16, 1, 2) if tiny else None
    for dtype in (torch.float16,) if tiny else (torch.float16, torch.bfloat16, torch.float32):
        for lengths in batches:
            ends = [sum(lengths[: i + 1]) for i in range(len(lengths))]
            starts = [0, *ends[:-1]]
            cu = torch.tensor([0, *ends], dtype=torch.int32, device=device)
            longest = max(lengths)
            for head_dim, heads in every if dtype == torch.float16 else some:
                if longest > 1024 and (head_dim not in (32, 64) or dtype == torch.float32):
                    continue
                hidden = heads * head_dim
                qkv = torch.randn(ends[-1], 3 * hidden, generator=draw, device=device).to(dtype)
                q, k, v = qkv.split(hidden, 1)
                position = torch.randn(heads, longest, longest, generator=draw, device=device).to(dtype)
                if longest:
                    position[0, :, 0], position[:, 0] = -math.inf, -math.inf
                for label, bias, causal in (("", None, False), (", bias", position, False), (", causal", None, True)):
                    got = attention.packed_attention(q, k, v, cu, heads, head_dim**-0.5, bias, causal, config=tile)
                    want = define_attention(q, k, v, starts, ends, heads, head_dim**-0.5, bias, causal)
                    name = (
                        f"packed attention {heads}x{head_dim}, {len(lengths)} up to {longest}{label}, {str(dtype)[6:]}"
                    )
                    if not ends[-1]:
                        yield Check(name, float(got.shape != q.shape), 0.0)
                        continue
                    bound = attention_bound(q, k, v, heads, head_dim**-0.5, bias)
                    yield Check(name, (got.double() - want).abs().amax().item(), bound)
                if not 0 < longest <= 512:
                    continue
                wide = [
                    torch.randn(len(lengths), longest, hidden, generator=draw, device=device).to(dtype) for _ in "qkv"
                ]
                real = torch.tensor(lengths, dtype=torch.int32, device=device)
                got = attention.padded_attention(*wide, real, heads, head_dim**-0.5, position, config=tile)
                flat = [each.view(-1, hidden) for each in wide]
                begin = [i * longest for i in range(len(lengths))]
                stop = [b + n for b, n in zip(begin, lengths, strict=True)]
                want = define_attention(*flat, begin, stop, heads, head_dim**-0.5, position, False).view(got.shape)
                name = f"padded attention {heads}x{head_dim}, {len(lengths)} up to {longest}, bias, {str(dtype)[6:]}"
                bound = attention_bound(*flat, heads, head_dim**-0.5, position)
                yield Check(name, (got.double() - want).abs().amax().item(), bound)


# Measurement.


class Timer:
    """Microseconds of `run`, as a CUDA graph of several launches; launched one by one where it cannot be captured."""

    def __init__(self, run: Callable[[], object]) -> None:
        import torch

        self.run, self.graph = run, None
        for _ in range(3):
            run()
        torch.cuda.synchronize()
        self.repeat = max(1, min(200, int(SECONDS * 1e6 / max(self._eager(3), 1.0))))
        try:
            graph = torch.cuda.CUDAGraph()
            with torch.cuda.graph(graph):
                for _ in range(self.repeat):
                    run()
            self.graph = graph
        except Exception:
            torch.cuda.synchronize()

    def __call__(self) -> float:
        import torch

        if self.graph is None:
            return self._eager(self.repeat)
        begin, end = torch.cuda.Event(enable_timing=True), torch.cuda.Event(enable_timing=True)
        begin.record()
        self.graph.replay()
        end.record()
        end.synchronize()
        return begin.elapsed_time(end) / self.repeat * 1e3

    def _eager(self, repeat: int) -> float:
        import torch

        begin, end = torch.cuda.Event(enable_timing=True), torch.cuda.Event(enable_timing=True)
        begin.record()
        for _ in range(repeat):
            self.run()
        end.record()
        end.synchronize()
        return begin.elapsed_time(end) / repeat * 1e3


def measure(contestants: dict[str, Callable[[], object]]) -> dict[str, dict[str, Any]]:
    """Run rounds of all contestants in turn; who goes first changes each round. One that fails is kept with its error."""
    timers: dict[str, Timer] = {}
    rows: dict[str, dict[str, Any]] = {}
    for name, run in contestants.items():
        try:
            timers[name] = Timer(run)
            rows[name] = {"how": "graph" if timers[name].graph is not None else "launches"}
        except Exception as error:
            rows[name] = {"error": f"{type(error).__name__}: {str(error).splitlines()[0][:200]}"}
    times: dict[str, list[float]] = {name: [] for name in timers}
    names = list(timers)
    for turn in range(ROUNDS):
        for i in range(len(names)):
            name = names[(i + turn) % len(names)]
            times[name].append(timers[name]())
    for name, found in times.items():
        rows[name] |= {"microseconds": statistics.median(found), "rounds": [round(t, 3) for t in found]}
    return rows


def ratio(a: list[float], b: list[float]) -> tuple[float, float, float]:
    """median(b) / median(a) and its 95 % bootstrap interval over rounds."""
    import torch

    first, second = torch.tensor(a, dtype=torch.float64), torch.tensor(b, dtype=torch.float64)
    picks = torch.randint(len(a), (2000, len(a)), generator=torch.Generator().manual_seed(0))
    ratios = second[picks].quantile(0.5, 1) / first[picks].quantile(0.5, 1)
    low, high = ratios.quantile(torch.tensor([0.025, 0.975], dtype=torch.float64)).tolist()
    return float(second.quantile(0.5) / first.quantile(0.5)), low, high


@dataclass(frozen=True)
class Case:
    """`prepare` makes the contestants, ours first; `bytes` and `operations` are what the operation needs at least."""

    name: str
    op: str
    bytes: int
    operations: int
    prepare: Callable[[], dict[str, Callable[[], object]]]


def mixed(count: int, middle: float, longest: int) -> list[int]:
    """Log-normal lengths around `middle`, the same each time, the longest among them."""
    import torch

    draw = torch.randn(count, generator=torch.Generator().manual_seed(3), dtype=torch.float64)
    lengths = [max(1, min(longest, round(middle * math.exp(0.55 * float(d))))) for d in draw]
    lengths[0] = longest
    return lengths


def softmax_case(shape: tuple[int, int, int, int], by_position: bool) -> Case:
    import torch

    _, softmax, _ = kernel_modules()
    size = math.prod(shape)

    def prepare() -> dict[str, Callable[[], object]]:
        x = torch.randn(shape, device=DEVICE, dtype=torch.float16)
        of = (1, *shape[1:]) if by_position else (shape[0], 1, 1, shape[3])
        bias = torch.randn(of, device=DEVICE, dtype=torch.float16)
        if not by_position:
            bias[..., shape[3] // 2 :] = -math.inf
        scale = torch.tensor(0.125, device=DEVICE, dtype=torch.float16)
        return {
            "headway": lambda: softmax.masked_softmax(x, bias, 0.125),
            "torch scale, mask, softmax": lambda: torch.softmax(x * scale + bias, -1),
            "torch softmax alone": lambda: torch.softmax(x, -1),
        }

    kind = "by position" if by_position else "padding"
    return Case(f"{'x'.join(map(str, shape))} {kind}", "masked softmax", 4 * size, 0, prepare)


def attention_case(lengths: list[int], heads: int, head_dim: int, label: str, *, bias: bool = False) -> Case:
    import torch
    import torch.nn.functional as F

    _, _, attention = kernel_modules()
    tokens, batch, longest, hidden = sum(lengths), len(lengths), max(lengths), heads * head_dim

    def prepare() -> dict[str, Callable[[], object]]:
        def made(*of: int) -> Any:
            return torch.randn(of, device=DEVICE, dtype=torch.float16)

        q, k, v = made(tokens, 3 * hidden).split(hidden, 1)
        ends = torch.tensor(lengths).cumsum(0).tolist()
        cu = torch.tensor([0, *ends], dtype=torch.int32, device=DEVICE)
        real = torch.tensor(lengths, dtype=torch.int32, device=DEVICE)
        wide = [made(batch, longest, hidden) for _ in "qkv"]
        by_head = [each.view(batch, longest, heads, head_dim).transpose(1, 2) for each in wide]
        position = made(heads, -(-longest // 16) * 16, -(-longest // 16) * 16)[:, :longest, :longest] if bias else None
        seen = (torch.arange(longest, device=DEVICE) < real[:, None])[:, None, None]
        mask = seen if position is None else torch.where(seen, position[None], -math.inf).to(torch.float16)
        scale = head_dim**-0.5
        contestants: dict[str, Callable[[], object]] = {
            "headway packed": lambda: attention.packed_attention(q, k, v, cu, heads, scale, position),
            "headway padded": lambda: attention.padded_attention(*wide, real, heads, scale, position),
            "torch sdpa padded": lambda: F.scaled_dot_product_attention(*by_head, attn_mask=mask, scale=scale),
        }
        if position is None:
            contestants["torch sdpa, padding seen"] = lambda: F.scaled_dot_product_attention(*by_head, scale=scale)
            packed = [each.contiguous().view(tokens, heads, head_dim) for each in (q, k, v)]
            offsets = cu.long()
            nested = [
                torch.nested.nested_tensor_from_jagged(
                    each, offsets, min_seqlen=min(lengths), max_seqlen=longest
                ).transpose(1, 2)
                for each in packed
            ]
            contestants["torch sdpa nested"] = lambda: F.scaled_dot_product_attention(*nested, scale=scale)
        return contestants

    padding = 1 - tokens / (batch * longest)
    name = f"{label}, {heads}x{head_dim}, {padding:.0%} padding{', bias' if bias else ''}"
    operations = 4 * hidden * sum(n * n for n in lengths)
    moved = 8 * tokens * hidden + (2 * heads * longest**2 if bias else 0)
    return Case(name, "attention", moved, operations, prepare)


def cases() -> Iterator[Case]:
    for shape in ((32, 12, 128, 128), (8, 12, 512, 512), (32, 12, 62, 62), (2, 16, 2048, 2048), (1, 8, 512, 20_000)):
        yield softmax_case(shape, by_position=False)
    yield softmax_case((8, 12, 512, 512), by_position=True)
    for heads, head_dim in ((12, 32), (12, 64)):
        yield attention_case(mixed(32, 26, 62), heads, head_dim, "32 texts up to 62")
        yield attention_case(mixed(256, 26, 62), heads, head_dim, "256 texts up to 62")
        yield attention_case(mixed(64, 150, 512), heads, head_dim, "64 texts up to 512")
        for batch, length in ((8, 128), (32, 128), (32, 512), (4, 4096)):
            yield attention_case([length] * batch, heads, head_dim, f"{batch}x{length}")
    yield attention_case([512] * 16, 16, 128, "16x512")
    yield attention_case([128] * 32, 12, 26, "32x128")
    yield attention_case([128] * 32, 8, 96, "32x128")
    yield attention_case([128] * 32, 12, 64, "32x128", bias=True)
    yield attention_case(mixed(64, 150, 512), 12, 64, "64 texts up to 512", bias=True)
    for share in (0, 25, 50, 75, 90):  # time against the share of padding: one text is long, the others leave room
        short = round((128 * 64 * (100 - share) / 100 - 128) / 63) if share else 128
        yield attention_case([128] + [short] * 63, 12, 32, f"64 texts up to 128, share {share}")


def time_case(case: Case) -> dict[str, Any]:
    import torch

    half = max(1, case.bytes // 4)
    source = torch.empty(half, device=DEVICE, dtype=torch.float16)
    target = torch.empty_like(source)
    contestants = case.prepare()
    ours = next(iter(contestants))
    contestants["copy of the bytes"] = lambda: target.copy_(source)
    if case.operations:
        a, b, out = (torch.randn(PRODUCT, PRODUCT, device=DEVICE, dtype=torch.float16) for _ in range(3))
        contestants["product"] = lambda: torch.mm(a, b, out=out)
    rows = measure(contestants)
    copied = rows.pop("copy of the bytes")["microseconds"]
    limit = {"copy_microseconds": copied, "gigabytes_per_second": case.bytes / copied / 1e3, "microseconds": copied}
    if case.operations:
        rate = 2 * PRODUCT**3 / rows.pop("product")["microseconds"]
        limit |= {"product_microseconds": case.operations / rate, "teraflops": rate / 1e6}
        limit["microseconds"] = max(copied, case.operations / rate)
    for name, row in rows.items():
        if "microseconds" in row:
            row["share_of_limit"] = limit["microseconds"] / row["microseconds"]
            if name != ours and "rounds" in rows[ours]:
                row["times_headway"] = ratio(rows[ours]["rounds"], row["rounds"])
    return {"case": case.name, "op": case.op, "limit": limit, "contestants": rows}


# Tiles: shapes that encoders have.

TUNED_ELEMENTS = 2**24
TUNED_COLUMNS = (64, 128, 256, 512, 1024, 2048, 4096, 16_384)
TUNED_HEADS = ((16, 12), (32, 12), (64, 12), (128, 8))
TUNED_LENGTHS = ((256, 26, 62), (32, 384, 384))
"""How many texts, of which middle length, how long the longest."""


def tune(device: str, again: bool) -> None:
    """Time the candidates and records the best; what this device has recorded stays, unless `again`."""
    import torch

    configs, softmax, attention = kernel_modules()
    arch = softmax.compute_capability(torch.empty(1, device=DEVICE))
    if arch not in configs.SHARED_BYTES:
        raise SystemExit(f"sm_{arch} is not among the architectures that the kernels are tiled for")
    for columns in TUNED_COLUMNS:
        x = torch.randn(TUNED_ELEMENTS // columns, columns, device=DEVICE, dtype=torch.float16)
        bias = torch.zeros(1, columns, device=DEVICE, dtype=torch.float16)
        key = configs.softmax_key(arch, columns)
        if again or configs.measured_on("softmax", key) != device:
            runs = {c: _softmax_run(softmax, x, bias, c) for c in configs.softmax_candidates(columns)}
            _record(configs, "softmax", key, runs, device)
    for head_dim, heads in TUNED_HEADS:
        for lengths in (mixed(*shape) for shape in TUNED_LENGTHS):
            for biased in (False, True):
                key = configs.attention_key(arch, head_dim, 2, sum(lengths) / len(lengths), biased)
                if not again and configs.measured_on("attention", key) == device:
                    continue
                q = torch.randn(sum(lengths), heads * head_dim, device=DEVICE, dtype=torch.float16)
                ends = torch.tensor(lengths).cumsum(0).tolist()
                cu = torch.tensor([0, *ends], dtype=torch.int32, device=DEVICE)
                side = -(-max(lengths) // 16) * 16
                bias = torch.randn(heads, side, side, device=DEVICE, dtype=torch.float16) if biased else None
                runs = {
                    c: _attention_run(attention, q, cu, heads, head_dim**-0.5, bias, c)
                    for c in configs.attention_candidates(arch, head_dim, 2)
                }
                _record(configs, "attention", key, runs, device)


def _softmax_run(softmax: ModuleType, x: Any, bias: Any, config: Any) -> Callable[[], object]:
    return lambda: softmax.masked_softmax(x, bias, 0.125, config=config)


def _attention_run(attention: ModuleType, q: Any, cu: Any, heads: int, scale: float, bias: Any, config: Any) -> Any:
    return lambda: attention.packed_attention(q, q, q, cu, heads, scale, bias, config=config)


def _record(configs: ModuleType, kind: str, key: str, runs: dict[Any, Callable[[], object]], device: str) -> None:
    rows = measure({str(config): run for config, run in runs.items()})
    found = {c: rows[str(c)]["microseconds"] for c in runs if "microseconds" in rows[str(c)]}
    if not found:
        print(f"  {key}: no candidate ran", flush=True)
        return
    best = min(found, key=lambda c: found[c])
    configs.record(kind, key, best, device, found[best])
    print(f"  {key}: {best}, {found[best]:.1f} us of {len(found)} candidates", flush=True)


# The command.


def describe() -> dict[str, Any]:
    """Return the device and the versions that a figure depends on."""
    import torch
    import triton

    return {
        "device": torch.cuda.get_device_name(),
        "capability": list(torch.cuda.get_device_capability()),
        "memory_bytes": torch.cuda.get_device_properties(0).total_memory,
        "torch": torch.__version__,
        "cuda": torch.version.cuda,
        "triton": triton.__version__,
        "python": sys.version.split()[0],
    }


def fingerprint() -> str:
    """Of the code that is measured, tiles included."""
    digest = hashlib.sha256()
    for path in (
        *sorted((ROOT / "kernels" / "triton").glob("*.py")),
        ROOT / "kernels/triton/configs.json",
        Path(__file__),
    ):
        digest.update(path.read_bytes())
    return digest.hexdigest()[:16]


def table(results: list[dict[str, Any]]) -> str:
    """One line a contestant: how long, how much of the limit, how many times as long as ours."""
    lines = [("op, case", "implementation", "us", "of limit", "times headway")]
    for result in results:
        title = f"{result['op']}: {result['case']}"
        for name, row in result["contestants"].items():
            if "error" in row:
                lines.append((title, name, "-", "-", row["error"]))
            else:
                times = row.get("times_headway")
                shown = f"{times[0]:.2f} ({times[1]:.2f} to {times[2]:.2f})" if times else ""
                shown += "" if row["how"] == "graph" else " launched one by one"
                lines.append((title, name, f"{row['microseconds']:.1f}", f"{row['share_of_limit']:.0%}", shown))
            title = ""
    widths = [max(len(line[i]) for line in lines) for i in range(4)]
    return "\n".join(
        "  ".join(text.ljust(w) for text, w in zip(line, [*widths, 0], strict=True)).rstrip() for line in lines
    )


def refusal() -> str | None:
    """Why nothing can be measured here, or None."""
    try:
        import torch
        import triton  # noqa: F401 - asked whether it is there
    except ModuleNotFoundError as error:
        return f"{error.name} is not installed: pip install torch triton==3.6.0"
    if not torch.cuda.is_available():
        return "torch finds no CUDA device; this command measures on one"
    return None


def main(arguments: list[str] | None = None) -> int:
    parser = argparse.ArgumentParser(description="Check and time the Triton kernels on this machine's GPU.")
    parser.add_argument("--tune", action="store_true", help="time the candidate tiles first and record the best")
    parser.add_argument(
        "--again", action="store_true", help="measure also what the result file and the table of tiles hold"
    )
    options = parser.parse_args(arguments)
    reason = refusal()
    if reason is not None:
        print(f"benchmarks/gpu/kernels.py: {reason}", file=sys.stderr)
        return NOT_AVAILABLE
    machine, began = describe(), time.perf_counter()
    device = machine["device"]
    if options.tune:
        print(f"tiles on {device}", flush=True)
        tune(device, options.again)
    machine["code"] = fingerprint()
    path = RESULTS / f"gpu-kernels-{re.sub(r'[^a-z0-9]+', '-', device.lower()).strip('-')}.json"
    kept: dict[str, Any] = {"machine": machine, "checks": None, "results": []}
    if path.is_file() and not options.again:
        before = json.loads(path.read_text(encoding="utf-8"))
        kept = before if before["machine"] == machine else kept
    if kept["checks"] is None:
        checks = [*check_softmax(DEVICE), *check_attention(DEVICE)]
        wrong = [check for check in checks if not check.ok]
        for check in wrong:
            print(f"WRONG {check.name}: error {check.error:.3g}, {check.bound:.3g} is allowed")
        kept["checks"] = {
            "count": len(checks),
            "wrong": [vars(check) for check in wrong],
            "largest_error_of_bound": max(c.error / c.bound for c in checks if c.bound),
        }
    print(f"{device}: {kept['checks']['count']} checks, {len(kept['checks']['wrong'])} wrong", flush=True)
    if kept["checks"]["wrong"]:
        return 1
    done = {(row["op"], row["case"]) for row in kept["results"]}
    for case in cases():
        if (case.op, case.name) in done:
            continue
        kept["results"].append(time_case(case))
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_text(json.dumps(kept, indent=1) + "\n", encoding="utf-8")
    print(table(kept["results"]))
    print(f"{path}; {time.perf_counter() - began:.0f} s")
    return 0


if __name__ == "__main__":
    raise SystemExit(main())
