"""What runs in the process that interprets the Triton kernels: that is decided when they are imported.

Two things that Triton 3.6's interpreter does not do are put right here: it multiplies the bits of bfloat16 instead of the numbers, and
it turns arrays of one element into an index, which NumPy 2.4 no longer does. The compiled kernels are not touched by either.
"""

import os
import sys
from pathlib import Path
from typing import Any

import numpy as np
import pytest

ROOT = Path(__file__).parents[2]


def start() -> None:
    """Prepare the process; called once, before anything else."""
    os.environ["TRITON_INTERPRET"] = "1"
    import torch
    import triton.language as tl
    from triton.runtime import interpreter

    torch.set_num_threads(1)
    patch_tensor, dot = interpreter._patch_lang_tensor, interpreter.InterpreterBuilder.create_dot

    def patched(tensor: Any, scope: Any) -> None:
        patch_tensor(tensor, scope)
        scope.set_attr(tensor, "__index__", lambda self: int(self.handle.data.item()))

    def create_dot(self: Any, a: Any, b: Any, *rest: Any) -> Any:
        return dot(self, _widened(a), _widened(b), *rest)

    def _widened(x: Any) -> Any:
        if x.dtype.scalar != tl.bfloat16:
            return x
        wide = (x.data.astype(np.uint32) << 16).view(np.float32)
        return interpreter.TensorHandle(wide, tl.float32)

    interpreter._patch_lang_tensor = patched
    interpreter.InterpreterBuilder.create_dot = create_dot


def softmax(x: np.ndarray, bias: np.ndarray | None, scale: float, dtype: str, rows: int) -> np.ndarray:
    """float64 of what the kernel gives, on the tile of `rows` rows."""
    from headway.kernels.triton.configs import SoftmaxConfig
    from headway.kernels.triton.softmax import masked_softmax

    tensors = [None if each is None else _tensor(each, dtype) for each in (x, bias)]
    return masked_softmax(*tensors, scale, config=SoftmaxConfig(rows, 1)).double().numpy()


def long_softmax(x: np.ndarray, bias: np.ndarray | None, scale: float, tile: int) -> np.ndarray:
    """Return the kernel for rows longer than a tile, with tiles of `tile` columns."""
    from headway.kernels.triton import softmax as module

    tile_before, module.LONGEST_TILE = module.LONGEST_TILE, tile
    try:
        return softmax(x, bias, scale, "float32", 2)
    finally:
        module.LONGEST_TILE = tile_before


def attention(
    q: np.ndarray, k: np.ndarray, v: np.ndarray, lengths: np.ndarray, heads: int, scale: float, bias: np.ndarray | None,
    causal: bool, dtype: str, blocks: tuple[int, int],
) -> np.ndarray:  # fmt: skip
    """Packed for arrays of two axes, padded for three."""
    import torch

    from headway.kernels.triton.attention import packed_attention, padded_attention
    from headway.kernels.triton.configs import AttentionConfig

    run = packed_attention if q.ndim == 2 else padded_attention
    added = None if bias is None else _tensor(bias, dtype)
    # Columns of one matrix, as a model has them: the stride between rows is not their number.
    q, k, v = _tensor(np.concatenate([q, k, v], -1), dtype).split(q.shape[-1], -1)
    ends, config = torch.tensor(lengths, dtype=torch.int32), AttentionConfig(*blocks, 1, 1)
    return run(q, k, v, ends, heads, scale, added, causal, config=config).double().numpy()


def hostile_lengths(cu_seqlens: list[int], tokens: int) -> tuple[bool, bool]:
    """Return the kernel between rows of NaN and rows of sevens: whether it wrote NaN, and whether it wrote outside."""
    import torch

    from headway.kernels.triton.attention import attention_kernel

    inputs = torch.full((3 * tokens, 32), torch.nan)
    inputs[tokens : 2 * tokens] = 1.0
    out = torch.full((3 * tokens, 32), 7.0)
    x, into = inputs[tokens : 2 * tokens], out[tokens : 2 * tokens]
    cu, sequences = torch.tensor(cu_seqlens, dtype=torch.int32), len(cu_seqlens) - 1
    attention_kernel[(tokens // 16 + sequences, 2)](
        x, x, x, cu, None, tokens, sequences, 0, 32, 32, 32, 0, 0, 0.25, into,
        HEAD_DIM=16, PADDED=False, CAUSAL=False, BLOCK_M=16, BLOCK_N=16, BLOCK_D=16,
    )  # fmt: skip
    outside = torch.cat([out[:tokens], out[2 * tokens :]])
    return bool(into.isnan().any()), not bool((outside == 7).all())


def refused(what: str) -> str:
    """Return the message of the ValueError that a wrong call raises."""
    import torch

    from headway.kernels.triton.attention import packed_attention, padded_attention
    from headway.kernels.triton.softmax import masked_softmax

    x, cu = torch.ones(4, 32), torch.tensor([0, 4], dtype=torch.int32)
    wide = torch.ones(2, 4, 32)
    calls = {
        "softmax dtype": lambda: masked_softmax(torch.ones(2, 2, dtype=torch.int32)),
        "softmax bias": lambda: masked_softmax(x, torch.ones(3, 32)),
        "softmax axes": lambda: masked_softmax(torch.ones(1, 1, 1, 2, 2), torch.ones(2)),
        "shape": lambda: packed_attention(x, x[:2], x, cu, 2, 1.0),
        "dtype": lambda: packed_attention(x, x, x.half(), cu, 2, 1.0),
        "heads": lambda: packed_attention(x, x, x, cu, 3, 1.0),
        "head_dim": lambda: packed_attention(x, x, x, cu, 4, 1.0),
        "cu_seqlens": lambda: packed_attention(x, x, x, cu.long(), 2, 1.0),
        "bias": lambda: packed_attention(x, x, x, cu, 2, 1.0, torch.ones(3, 4, 4)),
        "lengths": lambda: padded_attention(wide, wide, wide, cu[:1], 2, 1.0),
        "small bias": lambda: padded_attention(wide, wide, wide, cu, 2, 1.0, torch.ones(2, 3, 3)),
    }
    try:
        calls[what]()
    except ValueError as error:
        return str(error)
    return ""


def benchmark_checks() -> list[tuple[str, float, float]]:
    """Those of the command for a GPU machine, on tiny shapes."""
    sys.path.insert(0, str(ROOT))
    from benchmarks.gpu import kernels

    checks = [*kernels.check_softmax("cpu", tiny=True), *kernels.check_attention("cpu", tiny=True)]
    return [(check.name, check.error, check.bound) for check in checks]


def benchmark_checks_notice() -> list[str]:
    """Names of the checks that fail where the kernel multiplies by a wrong scale."""
    sys.path.insert(0, str(ROOT))
    from benchmarks.gpu import kernels

    _, module, _ = kernels.kernel_modules()
    right = module.masked_softmax
    module.masked_softmax = lambda x, bias=None, scale=1.0: right(x, bias, scale * 1.01)
    try:
        return [check.name for check in kernels.check_softmax("cpu", tiny=True) if not check.ok]
    finally:
        module.masked_softmax = right


def benchmark_dry_run(folder: str) -> dict[str, Any]:
    """Return the whole command on the CPU with tiny cases and a clock of one launch: twice, interrupted in the first run."""
    import contextlib
    import io
    import time

    sys.path.insert(0, str(ROOT))

    from benchmarks.gpu import kernels as bench

    class Clock:
        graph = None

        def __init__(self, run: Any) -> None:
            self.run = run
            run()

        def __call__(self) -> float:
            begin = time.perf_counter()
            self.run()
            return (time.perf_counter() - begin) * 1e6

    configs, softmax, _ = bench.kernel_modules()
    table = Path(folder, "configs.json")
    table.write_text(configs.TABLE.read_text(encoding="utf-8"), encoding="utf-8")
    timed: list[str] = []

    def some(stop: bool) -> Any:
        yield bench.softmax_case((1, 1, 4, 16), by_position=False)
        yield bench.attention_case([3, 9], 1, 16, "two")
        if stop:
            raise KeyboardInterrupt
        yield bench.attention_case([3, 9], 1, 16, "two", bias=True)

    def counted(case: Any) -> dict[str, Any]:
        timed.append(case.name)
        return time_case(case)

    time_case, check_softmax, check_attention = bench.time_case, bench.check_softmax, bench.check_attention
    replaced = {
        "time_case": counted, "check_softmax": lambda device: list(check_softmax(device, tiny=True))[:3],
        "check_attention": lambda device: list(check_attention(device, tiny=True))[:3], "refusal": lambda: None,
        "describe": lambda: {"device": "A Tiny (GPU)"}, "Timer": Clock, "DEVICE": "cpu", "PRODUCT": 8, "ROUNDS": 2,
        "RESULTS": Path(folder), "TUNED_ELEMENTS": 64, "TUNED_COLUMNS": (16,), "TUNED_HEADS": ((16, 1),),
        "TUNED_LENGTHS": ((1, 3, 3),),
    }  # fmt: skip
    printed, rounds = io.StringIO(), []
    with contextlib.redirect_stdout(printed), pytest.MonkeyPatch.context() as patch:
        patch.setattr(configs, "TABLE", table)
        patch.setattr(softmax, "compute_capability", lambda tensor: 90)
        for name, value in replaced.items():
            patch.setattr(bench, name, value)
        patch.setattr(bench, "cases", lambda: some(True))
        with contextlib.suppress(KeyboardInterrupt):
            bench.main(["--tune"])
        patch.setattr(bench, "cases", lambda: some(False))
        for arguments in (["--tune"], ["--again"]):  # tiles that are recorded are not timed again
            before = len(timed)
            assert bench.main(arguments) == 0
            rounds.append(len(timed) - before)
    configs._table.cache_clear()
    result = Path(folder, "gpu-kernels-a-tiny-gpu.json").read_text(encoding="utf-8")
    return {
        "printed": printed.getvalue(),
        "result": result,
        "tiles": table.read_text(encoding="utf-8"),
        "timed": rounds,
    }


def _tensor(array: np.ndarray, dtype: str) -> Any:
    import torch

    return torch.tensor(array).to(getattr(torch, dtype))
