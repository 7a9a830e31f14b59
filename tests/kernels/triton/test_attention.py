"""Attention in Triton's CPU interpreter against its float64 definition: tiny shapes, at some hundred rows per second."""

from collections.abc import Callable
from typing import Any

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from headway.kernels import reference

import triton_worker as worker
from tests.support.triton_bounds import attention_bound, few, rounded

Run = Callable[..., Any]


lengths_of = st.lists(st.sampled_from([0, 1, 2, 3, 15, 16, 17, 31]), max_size=4)


shape_of_heads = st.sampled_from([(16, 1), (16, 3), (24, 2), (26, 2), (32, 1), (40, 1), (64, 1), (80, 1), (128, 1)])


@few
@given(
    st.integers(0, 2**31), lengths_of, shape_of_heads, st.sampled_from(["float16", "bfloat16", "float32"]), st.booleans(),
    st.sampled_from(["none", "of heads", "shared"]), st.sampled_from([None, 30.0]), st.sampled_from([(16, 16), (32, 16), (16, 32)]),
)  # fmt: skip
def test_packed_attention(
    interpreted: Run, seed: int, lengths: list[int], shape: tuple[int, int], dtype: str, causal: bool, kind: str,
    steep: float | None, blocks: tuple[int, int],
) -> None:  # fmt: skip
    rng = np.random.default_rng(seed)
    head_dim, heads = shape
    scale = float(np.float32(steep or head_dim**-0.5))
    q, k, v = (rounded(rng.normal(size=(sum(lengths), heads * head_dim)), dtype) for _ in "qkv")
    positions = max(lengths, default=0) + int(rng.integers(3))
    bias = None
    if kind != "none":
        bias = rounded(rng.uniform(-3, 3, (heads if kind == "of heads" else 1, positions, positions)), dtype)
        bias[:, :, ::3], bias[:, 1:2] = -np.inf, -np.inf
    cu = np.cumsum([0, *lengths]).astype(np.int32)
    got = interpreted(worker.attention, q, k, v, cu, heads, scale, bias, causal, dtype, blocks)
    want = reference.packed_attention(q, k, v, cu, heads, scale, bias, causal)
    np.testing.assert_allclose(got, want, rtol=0, atol=attention_bound(q, k, v, heads, scale, dtype))


@few
@given(
    st.integers(0, 2**31), st.integers(1, 35), st.integers(1, 3), shape_of_heads, st.sampled_from(["float16", "bfloat16"]),
    st.booleans(), st.booleans(),
)  # fmt: skip
def test_padded_attention(
    interpreted: Run, seed: int, length: int, batch: int, shape: tuple[int, int], dtype: str, causal: bool, biased: bool
) -> None:
    rng = np.random.default_rng(seed)
    head_dim, heads = shape
    scale = float(np.float32(head_dim**-0.5))
    q, k, v = (rounded(rng.normal(size=(batch, length, heads * head_dim)), dtype) for _ in "qkv")
    real = rng.integers(0, length + 1, batch).astype(np.int32)
    for row, n in enumerate(real):  # what stands in the padding does not count
        v[row, n:] = 1e4
    bias = rounded(rng.uniform(-3, 3, (heads, length, length)), dtype) if biased else None
    got = interpreted(worker.attention, q, k, v, real, heads, scale, bias, causal, dtype, (16, 16))
    want = reference.padded_attention(q, k, v, real, heads, scale, bias, causal)
    counted = np.concatenate([v[row, :n] for row, n in enumerate(real)])
    np.testing.assert_allclose(got, want, rtol=0, atol=attention_bound(q, k, counted, heads, scale, dtype))


def test_a_wrong_scale_is_noticed(interpreted: Run) -> None:
    """The bounds are tight enough to see an error of one per cent in the scale."""
    rng = np.random.default_rng(5)
    q, k, v = (rounded(rng.normal(size=(20, 32)), "float16") for _ in "qkv")
    cu = np.array([0, 20], np.int32)
    got = interpreted(worker.attention, q, k, v, cu, 2, 1.01, None, False, "float16", (16, 16))
    want = reference.packed_attention(q, k, v, cu, 2, 1.0)
    assert np.abs(got - want).max() > attention_bound(q, k, v, 2, 1.0, "float16")


def test_attention_of_infinite_scores(interpreted: Run) -> None:
    rng = np.random.default_rng(1)
    q, k, v = (rng.normal(size=(40, 16)).astype(np.float32) for _ in "qkv")
    cu = np.array([0, 3, 40], np.int32)
    bias = np.zeros((1, 37, 37), np.float32)
    bias[0, 0, 2], bias[0, 5, 30], bias[0, 6] = np.inf, np.nan, -np.inf
    got = interpreted(worker.attention, q, k, v, cu, 1, 0.25, bias, False, "float32", (16, 16))
    want = reference.packed_attention(q, k, v, cu, 1, 0.25, bias)
    np.testing.assert_allclose(got, want, rtol=0, atol=1e-5)
    assert np.isnan(got[[0, 3, 8]]).all()
    assert (got[9] == 0).all()


@few
@given(st.lists(st.one_of(st.integers(-40, 40), st.sampled_from([-(2**31), 2**31 - 1])), min_size=2, max_size=5))
def test_senseless_lengths_touch_nothing_outside(interpreted: Run, cu_seqlens: list[int]) -> None:
    read_outside, wrote_outside = interpreted(worker.hostile_lengths, cu_seqlens, 20)
    assert not read_outside
    assert not wrote_outside


@pytest.mark.parametrize(
    ("call", "message"),
    [
        ("softmax dtype", "x is torch.int32"), ("softmax bias", "does not broadcast to x"), ("softmax axes", "4 axes, not 5"),
        ("shape", "k is [2, 32]"), ("dtype", "v is [4, 32], torch.float16"), ("heads", "cannot be shared by 3 heads"),
        ("head_dim", "head_dim 8 is not supported"), ("cu_seqlens", "cu_seqlens is [2], torch.int64"), ("bias", "[2 or 1, positions"),
        ("lengths", "1 lengths for a batch of 2"), ("small bias", "smaller than the sequence of 4"),
    ],
)  # fmt: skip
def test_wrong_calls_are_refused(interpreted: Run, call: str, message: str) -> None:
    assert message in interpreted(worker.refused, call)
