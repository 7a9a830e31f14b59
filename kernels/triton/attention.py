"""Compute attention over packed or padded sequences: softmax(scale * q kᵀ + bias) v, without the scores in memory.

Roofline, for `T` tokens, head_dim `D`, sequences of length `L`, half precision. Memory: q, k and v are read and the output is
written once, 8 T D bytes per head (keys and values are read again per block of queries, but from L2). Per score: 4 D operations
of the tensor cores, one exponential, and about six float32 operations for scaling, maximum, difference, sum and conversion. By
its data sheet, one multiprocessor of an H100 does 4,096 tensor operations, 16 exponentials and 128 float32 operations per
clock, and moves 14 bytes:

| D | tensor clocks per score | exponential | float32 | limit for long L | memory is the limit below L of about |
|---|---|---|---|---|---|
| 16 | 1/64 | 1/16 | 1/21 | exponentials | 150 |
| 32 | 1/32 | 1/16 | 1/21 | exponentials | 290 |
| 64 | 1/16 | 1/16 | 1/21 | both alike | 580 |
| 128 | 1/8 | 1/16 | 1/21 | tensor cores | 580 |

Encoders have heads of 26 to 64 and texts of 20 to 128 tokens: memory is the limit, and skipping the padding saves what it
costs. A head_dim that is no power of two is padded to the next one: loads and stores have the real width, tensor operations the
padded one, which costs nothing while memory or exponentials are the limit. Longer sequences need blocks of 64 queries or more,
so that L2 keeps up with keys and values: a block of M queries reads 4 L D bytes for 4 M L D operations, M per byte.
"""

from typing import TYPE_CHECKING

import triton
import triton.language as tl

from .configs import HEAD_DIMS, AttentionConfig, attention_config, padded_dim
from .softmax import compute_capability

if TYPE_CHECKING:
    import torch

LOG2E = tl.constexpr(1.4426950408889634)


@triton.jit
def _tile(x, rows, dims, present, stride, HEAD_DIM: tl.constexpr, BLOCK_D: tl.constexpr, MASKED: tl.constexpr):
    """Load `[rows, BLOCK_D]` of a head; zero where `MASKED` and not present, and beyond `HEAD_DIM`."""
    at = x + rows[:, None] * stride + dims[None, :]
    if MASKED:
        return tl.load(at, mask=present[:, None] & (dims < HEAD_DIM)[None, :], other=0.0)
    elif HEAD_DIM < BLOCK_D:
        return tl.load(at, mask=(dims < HEAD_DIM)[None, :], other=0.0)
    else:
        return tl.load(at)


@triton.jit
def _step(
    acc, peak, total, queries, k, v, bias, first, rows, dims, length, stride_k, stride_v, stride_bias, scale,
    HEAD_DIM: tl.constexpr, CAUSAL: tl.constexpr, MASKED: tl.constexpr, BLOCK_N: tl.constexpr, BLOCK_D: tl.constexpr,
):  # fmt: skip
    """Add `BLOCK_N` keys from `first` on. Scores are multiplied by log2(e), because the hardware's exponential is 2^x.

    `MASKED` where a key may lie beyond the sequence, or in the future; the blocks before need no comparisons.
    """
    columns = first + tl.arange(0, BLOCK_N)
    present = columns < length
    keys = _tile(k, columns, dims, present, stride_k, HEAD_DIM, BLOCK_D, MASKED)
    scores = tl.dot(queries, tl.trans(keys), input_precision="ieee") * (scale * LOG2E)
    if bias is not None:
        inside = (rows < length)[:, None]
        if MASKED:
            inside = inside & present[None, :]
        added = tl.load(bias + rows[:, None] * stride_bias + columns[None, :], mask=inside, other=0.0)
        scores += added.to(tl.float32) * LOG2E
    if MASKED:
        scores = tl.where(present[None, :], scores, float("-inf"))
        if CAUSAL:
            scores = tl.where(columns[None, :] <= rows[:, None], scores, float("-inf"))
    higher = tl.maximum(peak, tl.max(scores, 1))
    base = tl.where(higher == float("-inf"), 0.0, higher)
    weights = tl.exp2(scores - base[:, None])
    fade = tl.exp2(peak - base)
    values = _tile(v, columns, dims, present, stride_v, HEAD_DIM, BLOCK_D, MASKED)
    acc = tl.dot(weights.to(values.dtype), values, acc * fade[:, None], input_precision="ieee")
    return acc, higher, total * fade + tl.sum(weights, 1)


@triton.jit(do_not_specialize=("tokens", "sequences", "padded"))  # a new batch does not compile again
def attention_kernel(
    q, k, v, lengths, bias, tokens, sequences, padded, stride_q, stride_k, stride_v, stride_bias_head, stride_bias, scale, out,
    HEAD_DIM: tl.constexpr, PADDED: tl.constexpr, CAUSAL: tl.constexpr,
    BLOCK_M: tl.constexpr, BLOCK_N: tl.constexpr, BLOCK_D: tl.constexpr,
):  # fmt: skip
    """Compute one block of queries of one head.

    `q`, `k`, `v` are `[tokens, heads * HEAD_DIM]` with a stride between rows, `out` the same without gaps.

    Packed: `lengths` is `cu_seqlens [sequences + 1]`. The grid is `(tokens // BLOCK_M + sequences, heads)`. Program `(i, head)`
    takes block `i - (cu_seqlens[s] // BLOCK_M + s)` of the last sequence `s` for which this is not negative. No sequence needs
    more blocks than lie between its start and the next one's. So the grid follows from the number of tokens without reading the
    lengths, and grows with real tokens only. `PADDED`: `lengths` is `[sequences]`, sequence `s` begins at row `s * padded`, and
    the grid is `(sequences * cdiv(padded, BLOCK_M), heads)`. Whatever `lengths` holds, nothing outside `tokens` rows is read or
    written.

    Source of the algorithm: Dao, FlashAttention-2 (arXiv 2307.08691), algorithm 1.
    """
    block, head = tl.program_id(0), tl.program_id(1)
    if PADDED:
        per_sequence = tl.cdiv(padded, BLOCK_M)
        sequence = block // per_sequence
        block = block % per_sequence
        start = sequence * padded
        length = tl.minimum(tl.maximum(tl.load(lengths + sequence), 0), padded)
        limit = padded
    else:
        sequence = block * 0
        beyond = sequence + sequences
        while beyond - sequence > 1:
            middle = (sequence + beyond) // 2
            begins = tl.load(lengths + middle) // BLOCK_M + middle
            sequence = tl.where(begins <= block, middle, sequence)
            beyond = tl.where(begins <= block, beyond, middle)
        start = tl.minimum(tl.maximum(tl.load(lengths + sequence), 0), tokens)
        length = tl.minimum(tl.maximum(tl.load(lengths + sequence + 1), start), tokens) - start
        block -= start // BLOCK_M + sequence
        limit = length
    if (block < 0) | (block * BLOCK_M >= limit):
        return
    rows = block * BLOCK_M + tl.arange(0, BLOCK_M)
    dims = tl.arange(0, BLOCK_D)
    q += start.to(tl.int64) * stride_q + head * HEAD_DIM
    k += start.to(tl.int64) * stride_k + head * HEAD_DIM
    v += start.to(tl.int64) * stride_v + head * HEAD_DIM
    out += start.to(tl.int64) * (tl.num_programs(1) * HEAD_DIM) + head * HEAD_DIM
    if bias is not None:
        bias += head.to(tl.int64) * stride_bias_head
    present = rows < length
    queries = _tile(q, rows, dims, present, stride_q, HEAD_DIM, BLOCK_D, True)
    acc = tl.zeros([BLOCK_M, BLOCK_D], tl.float32)
    peak = tl.full([BLOCK_M], float("-inf"), tl.float32)
    total = tl.zeros([BLOCK_M], tl.float32)
    end = length if block * BLOCK_M < length else 0
    unmasked_end = end
    if CAUSAL:
        unmasked_end = tl.minimum(end, block * BLOCK_M)
        end = tl.minimum(end, (block + 1) * BLOCK_M)
    unmasked_end = unmasked_end // BLOCK_N * BLOCK_N
    for first in range(0, unmasked_end, BLOCK_N):
        acc, peak, total = _step(
            acc, peak, total, queries, k, v, bias, first, rows, dims, length, stride_k, stride_v, stride_bias, scale,
            HEAD_DIM, CAUSAL, False, BLOCK_N, BLOCK_D,
        )  # fmt: skip
    for first in range(unmasked_end, end, BLOCK_N):
        acc, peak, total = _step(
            acc, peak, total, queries, k, v, bias, first, rows, dims, length, stride_k, stride_v, stride_bias, scale,
            HEAD_DIM, CAUSAL, True, BLOCK_N, BLOCK_D,
        )  # fmt: skip
    result = acc / tl.where(total == 0.0, 1.0, total)[:, None]
    result = tl.where(present[:, None], result, 0.0)
    at = rows[:, None] * (tl.num_programs(1) * HEAD_DIM) + dims[None, :]
    tl.store(out + at, result.to(out.dtype.element_ty), mask=(rows < limit)[:, None] & (dims < HEAD_DIM)[None, :])


def packed_attention(
    q: "torch.Tensor",
    k: "torch.Tensor",
    v: "torch.Tensor",
    cu_seqlens: "torch.Tensor",
    heads: int,
    scale: float,
    bias: "torch.Tensor | None" = None,
    causal: bool = False,
    *,
    config: AttentionConfig | None = None,
) -> "torch.Tensor":
    """Return softmax(scale * q kᵀ + bias) v within each sequence and head; `[tokens, heads * head_dim]` in and out.

    `q`, `k`, `v` are float16, bfloat16 or float32, of one dtype, and may be columns of one tensor (a stride between rows needs
    no copy). `cu_seqlens` is int32 `[sequences + 1]` on the same device, starts at 0, never decreases and ends at `tokens`.
    This is not checked, since the host would wait for the device: rows outside all sequences are undefined, and nothing else is
    written. `bias` is `[heads or 1, positions, positions]`, per position in the sequence, with at least as many positions as the
    longest sequence has tokens; a multiple of 16 positions is read fastest. Sums are float32. `config` replaces the tile of the
    table.

    Raises ValueError where a shape or a dtype does not fit.
    """
    tokens = _check("packed_attention", q, k, v, 2, heads)
    _check_lengths("packed_attention", "cu_seqlens", cu_seqlens, q)
    sequences = cu_seqlens.numel() - 1
    if sequences < 0:
        raise ValueError("packed_attention: cu_seqlens is empty; [sequences + 1] is expected")
    return _launch(q, k, v, cu_seqlens, heads, scale, bias, causal, tokens, sequences, 0, config)


def padded_attention(
    q: "torch.Tensor",
    k: "torch.Tensor",
    v: "torch.Tensor",
    lengths: "torch.Tensor",
    heads: int,
    scale: float,
    bias: "torch.Tensor | None" = None,
    causal: bool = False,
    *,
    config: AttentionConfig | None = None,
) -> "torch.Tensor":
    """Compute `packed_attention` on `[batch, sequence, heads * head_dim]` with `lengths`, int32 `[batch]`.

    Keys from a row's length on are not seen; queries from there on give zeros.
    """
    tokens = _check("padded_attention", q, k, v, 3, heads)
    _check_lengths("padded_attention", "lengths", lengths, q)
    batch, padded = q.shape[:2]
    if lengths.numel() != batch:
        raise ValueError(f"padded_attention: {lengths.numel()} lengths for a batch of {batch}")
    if bias is not None and min(bias.shape[-2:]) < padded:
        raise ValueError(f"padded_attention: a bias of {list(bias.shape)} is smaller than the sequence of {padded}")
    flat_q, flat_k, flat_v = (x.contiguous().view(tokens, q.shape[2]) for x in (q, k, v))
    out = _launch(flat_q, flat_k, flat_v, lengths, heads, scale, bias, causal, tokens, batch, padded, config)
    return out.view(q.shape)


def _launch(
    q: "torch.Tensor",
    k: "torch.Tensor",
    v: "torch.Tensor",
    lengths: "torch.Tensor",
    heads: int,
    scale: float,
    bias: "torch.Tensor | None",
    causal: bool,
    tokens: int,
    sequences: int,
    padded: int,
    config: AttentionConfig | None,
) -> "torch.Tensor":
    hidden = q.shape[1]
    out = q.new_empty(tokens, hidden)
    if out.numel() == 0:
        return out
    q, k, v = (x if x.stride(1) == 1 else x.contiguous() for x in (q, k, v))
    stride_bias_head, stride_bias = 0, 0
    if bias is not None:
        if bias.ndim != 3 or bias.shape[0] not in (1, heads) or not bias.is_floating_point() or bias.device != q.device:
            raise ValueError(
                f"a bias of {list(bias.shape)}, {bias.dtype} on {bias.device}: "
                f"[{heads} or 1, positions, positions], floating point on {q.device} is expected"
            )
        bias = bias if bias.stride(2) == 1 else bias.contiguous()
        stride_bias_head, stride_bias = bias.stride(0) if bias.shape[0] > 1 else 0, bias.stride(1)
    head_dim = hidden // heads
    if config is None:
        mean = tokens / max(sequences, 1)
        config = attention_config(compute_capability(q), head_dim, q.element_size(), mean, bias is not None)
    blocks = sequences * triton.cdiv(padded, config.block_m) if padded else tokens // config.block_m + sequences
    attention_kernel[(blocks, heads)](
        q, k, v, lengths, bias, tokens, sequences, padded, q.stride(0), k.stride(0), v.stride(0),
        stride_bias_head, stride_bias, float(scale), out,
        HEAD_DIM=head_dim, PADDED=bool(padded), CAUSAL=causal,
        BLOCK_M=config.block_m, BLOCK_N=config.block_n, BLOCK_D=padded_dim(head_dim),
        num_warps=config.warps, num_stages=config.stages,
    )  # fmt: skip
    return out


def _check(name: str, q: "torch.Tensor", k: "torch.Tensor", v: "torch.Tensor", ndim: int, heads: int) -> int:
    """Check the inputs and return the number of tokens."""
    if q.ndim != ndim:
        raise ValueError(f"{name}: q has {q.ndim} axes, {ndim} are expected")
    for letter, x in (("k", k), ("v", v)):
        if x.shape != q.shape or x.dtype != q.dtype or x.device != q.device:
            raise ValueError(
                f"{name}: {letter} is {list(x.shape)}, {x.dtype} on {x.device}; "
                f"q is {list(q.shape)}, {q.dtype} on {q.device}"
            )
    if not q.is_floating_point() or q.element_size() > 4:
        raise ValueError(f"{name}: q is {q.dtype}; float16, bfloat16 or float32 is expected")
    if heads < 1 or q.shape[-1] % heads:
        raise ValueError(f"{name}: {q.shape[-1]} columns cannot be shared by {heads} heads")
    low, high = HEAD_DIMS
    if not low <= q.shape[-1] // heads <= high:
        raise ValueError(f"{name}: head_dim {q.shape[-1] // heads} is not supported, {low} to {high} are")
    return q.shape[:-1].numel()


def _check_lengths(name: str, label: str, lengths: "torch.Tensor", q: "torch.Tensor") -> None:
    if lengths.ndim != 1 or str(lengths.dtype) != "torch.int32" or lengths.device != q.device:
        raise ValueError(
            f"{name}: {label} is {list(lengths.shape)}, {lengths.dtype} on {lengths.device}; "
            f"one axis of int32 on {q.device} is expected"
        )
