"""Compute a masked softmax: softmax(scale * x + bias) over the last axis; a fully masked row gives zeros.

Roofline. An element is read once and written once: 4 bytes in half precision for about ten float32 operations and one
exponential. By its data sheet an H100 moves 3.35 TB/s and computes 3.7e12 exponentials per second. So the memory bandwidth is
the limit by a factor of four, and each further pass over memory costs what it moves: with scale and mask as separate operators,
12 bytes instead of 4. The bias is broadcast: one load serves all rows that share it, and it stays in L2. Rows up to 16,384
columns are held in registers. Longer ones are read twice (6 bytes): once for the largest score and the sum, once to write.
"""

from typing import TYPE_CHECKING

import triton
import triton.language as tl

from .configs import LONGEST_TILE, SoftmaxConfig, power_of_two, softmax_config

if TYPE_CHECKING:
    import torch

LOG2E = tl.constexpr(1.4426950408889634)

FREE = ("rows", "size1", "size2")
"""Arguments that the compiler does not specialize for 1 or multiples of 16: a new batch does not compile again."""


@triton.jit
def _scores(x, bias, row, column, inside, columns, size1, size2, stride0, stride1, stride2, stride3, scale):
    """Compute scale * x + bias of a tile in float32; -inf outside."""
    scores = tl.load(x + row.to(tl.int64) * columns + column, mask=inside, other=0.0).to(tl.float32) * scale
    if bias is not None:
        first = row // size2 // size1
        at = first.to(tl.int64) * stride0 + (row // size2 % size1) * stride1 + (row % size2) * stride2
        scores += tl.load(bias + at + column * stride3, mask=inside, other=0.0).to(tl.float32)
    return tl.where(inside, scores, float("-inf"))


@triton.jit(do_not_specialize=FREE)
def masked_softmax_kernel(
    x, bias, rows, columns, size1, size2, stride0, stride1, stride2, stride3, scale, out,
    ROWS: tl.constexpr, BLOCK: tl.constexpr,
):  # fmt: skip
    """Compute the softmax of rows of at most `BLOCK` columns.

    `x` and `out` are `[size0, size1, size2, columns]`, contiguous, with `rows` rows; `bias` has the strides given (0: broadcast).
    Program `i` computes `ROWS` rows from `i * ROWS` on; `BLOCK` is a power of two, at least `columns`.
    """
    row = (tl.program_id(0) * ROWS + tl.arange(0, ROWS))[:, None]
    column = tl.arange(0, BLOCK)[None, :]
    inside = (row < rows) & (column < columns)
    scores = _scores(x, bias, row, column, inside, columns, size1, size2, stride0, stride1, stride2, stride3, scale)
    peak = tl.max(scores, 1, keep_dims=True)
    weights = tl.exp2((scores - tl.where(peak == float("-inf"), 0.0, peak)) * LOG2E)
    total = tl.sum(weights, 1, keep_dims=True)
    weights = weights / tl.where(total == 0.0, 1.0, total)
    tl.store(out + row.to(tl.int64) * columns + column, weights.to(out.dtype.element_ty), mask=inside)


@triton.jit(do_not_specialize=FREE)
def long_softmax_kernel(
    x, bias, rows, columns, size1, size2, stride0, stride1, stride2, stride3, scale, out,
    ROWS: tl.constexpr, BLOCK: tl.constexpr,
):  # fmt: skip
    """Compute the softmax of longer rows in pieces of `BLOCK` columns: first the largest score and the sum, then the output.

    Source: Milakov & Gimelshein, Online normalizer calculation for softmax (arXiv 1805.02867), algorithm 3.
    """
    row = (tl.program_id(0) * ROWS + tl.arange(0, ROWS))[:, None]
    peak = tl.full([ROWS, 1], float("-inf"), tl.float32)
    total = tl.zeros([ROWS, 1], tl.float32)
    for begin in range(0, columns, BLOCK):
        column = begin + tl.arange(0, BLOCK)[None, :]
        inside = (row < rows) & (column < columns)
        scores = _scores(x, bias, row, column, inside, columns, size1, size2, stride0, stride1, stride2, stride3, scale)
        higher = tl.maximum(peak, tl.max(scores, 1, keep_dims=True))
        base = tl.where(higher == float("-inf"), 0.0, higher)
        total = total * tl.exp2((peak - base) * LOG2E) + tl.sum(tl.exp2((scores - base) * LOG2E), 1, keep_dims=True)
        peak = higher
    base = tl.where(peak == float("-inf"), 0.0, peak)
    total = tl.where(total == 0.0, 1.0, total)
    for begin in range(0, columns, BLOCK):
        column = begin + tl.arange(0, BLOCK)[None, :]
        inside = (row < rows) & (column < columns)
        scores = _scores(x, bias, row, column, inside, columns, size1, size2, stride0, stride1, stride2, stride3, scale)
        weights = tl.exp2((scores - base) * LOG2E) / total
        tl.store(out + row.to(tl.int64) * columns + column, weights.to(out.dtype.element_ty), mask=inside)


def masked_softmax(
    x: "torch.Tensor", bias: "torch.Tensor | None" = None, scale: float = 1.0, *, config: SoftmaxConfig | None = None
) -> "torch.Tensor":
    """Return softmax(scale * x + bias) over the last axis, in the shape and dtype of `x` (float16, bfloat16 or float32).

    `bias` has any shape that broadcasts to that of `x`; with a bias, `x` has at most four axes. Computed in float32.
    `config` replaces the tile of the table.

    Raises ValueError where a shape or a dtype does not fit.
    """
    _check_float("x", x)
    if x.ndim == 0:
        raise ValueError("masked_softmax: x has no axis to take a softmax over")
    columns, sizes, strides = x.shape[-1], (1, 1), (0, 0, 0, 0)
    if bias is not None:
        _check_float("bias", bias)
        if x.ndim > 4:
            raise ValueError(f"masked_softmax: with a bias, x may have 4 axes, not {x.ndim}: join leading ones")
        try:
            bias = bias.expand(x.shape)
        except RuntimeError as error:
            message = f"masked_softmax: a bias {list(bias.shape)} does not broadcast to x {list(x.shape)}"
            raise ValueError(message) from error
        added_axes = 4 - x.ndim
        shape, steps = (1,) * added_axes + tuple(x.shape), (0,) * added_axes + tuple(bias.stride())
        sizes, strides = (shape[1], shape[2]), (steps[0], steps[1], steps[2], steps[3])
    x = x.contiguous()
    out = x.new_empty(x.shape)
    if x.numel() == 0:
        return out
    rows = x.numel() // columns
    config = config or softmax_config(compute_capability(x), columns)
    kernel = masked_softmax_kernel if columns <= LONGEST_TILE else long_softmax_kernel
    kernel[(triton.cdiv(rows, config.rows),)](
        x, bias, rows, columns, *sizes, *strides, float(scale), out,
        ROWS=config.rows, BLOCK=min(power_of_two(columns), LONGEST_TILE), num_warps=config.warps,
    )  # fmt: skip
    return out


def compute_capability(tensor: "torch.Tensor") -> int:
    """Return the compute capability of a tensor's device, as 90 for sm_90; 0 on the CPU, where kernels are interpreted."""
    if not tensor.is_cuda:
        return 0
    import torch

    major, minor = torch.cuda.get_device_capability(tensor.device)
    return 10 * major + minor


def _check_float(name: str, tensor: "torch.Tensor") -> None:
    if not tensor.is_floating_point() or tensor.element_size() > 4:
        raise ValueError(f"masked_softmax: {name} is {tensor.dtype}; float16, bfloat16 or float32 is expected")
