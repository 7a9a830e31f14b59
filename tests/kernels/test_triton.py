"""Triton kernels in Triton's CPU interpreter, against the float64 definitions: tiny shapes, since it makes some hundred rows a second."""

import json
import re
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from headway.kernels import reference

import triton_worker as worker

Run = Callable[..., Any]
HALF_ULP = {"float32": 2.0**-24, "float16": 2.0**-11, "bfloat16": 2.0**-8}
TINY = {"float32": 2.0**-149, "float16": 2.0**-24, "bfloat16": 2.0**-133}

few = settings(
    max_examples=25, deadline=None, derandomize=True, suppress_health_check=[HealthCheck.function_scoped_fixture]
)


def rounded(x: np.ndarray, dtype: str) -> np.ndarray:
    """float32 numbers that `dtype` has."""
    if dtype == "bfloat16":
        bits = x.astype(np.float32).view(np.uint32)
        return ((bits + 0x8000) & np.uint32(0xFFFF0000)).view(np.float32)
    return x.astype(dtype).astype(np.float32)


def softmax_bound(x: np.ndarray, bias: np.ndarray | None, scale: float, dtype: str) -> float:
    """Scores are float32; an error of theirs is the relative error of an exponential, above and below the line."""
    largest = abs(scale) * float(np.abs(x).max(where=np.isfinite(x), initial=0))
    if bias is not None:
        largest += float(np.abs(bias).max(where=np.isfinite(bias), initial=0))
    return 4 * 2.0**-23 * (1 + largest) + HALF_ULP[dtype] + TINY[dtype]


def attention_bound(q: np.ndarray, k: np.ndarray, v: np.ndarray, heads: int, scale: float, dtype: str) -> float:
    """Return the same, where weights are rounded once more before they multiply the values."""
    norms = [np.linalg.norm(each.reshape(-1, each.shape[-1] // heads), axis=-1).max(initial=0) for each in (q, k)]
    largest = abs(scale) * float(norms[0] * norms[1]) + 4  # a bias of these tests is smaller than 4
    return float(np.abs(v).max(initial=0)) * (8 * 2.0**-23 * (1 + largest) + 3 * HALF_ULP[dtype])


@few
@given(
    st.integers(0, 2**31), st.lists(st.integers(1, 4), max_size=3), st.integers(1, 40), st.sampled_from(["float16", "bfloat16", "float32"]),
    st.sampled_from([0.0, 0.125, 1.0, 1e4]), st.sampled_from(["none", "padding", "masked rows", "whole"]), st.sampled_from([1, 4]),
)  # fmt: skip
def test_softmax(
    interpreted: Run, seed: int, leading: list[int], columns: int, dtype: str, scale: float, kind: str, rows: int
) -> None:
    rng = np.random.default_rng(seed)
    x = rounded(rng.normal(size=(*leading, columns)), dtype)
    bias = None
    if kind != "none":
        shape = x.shape if kind == "whole" else (*(1 if rng.random() < 0.5 else n for n in leading), columns)
        bias = rounded(rng.normal(size=shape), dtype)
        bias[..., rng.integers(columns) :] = 0 if kind == "whole" else -np.inf
        if kind == "masked rows":
            bias[..., :] = np.where(rng.random(shape[:-1])[..., None] < 0.5, -np.inf, bias)
    scale = float(np.float32(scale))
    got = interpreted(worker.softmax, x, bias, scale, dtype, rows)
    want = reference.masked_softmax(x, bias, scale)
    assert got.shape == want.shape
    np.testing.assert_allclose(got, want, rtol=0, atol=softmax_bound(x, bias, scale, dtype))
    assert (got[want == 0] == 0).all()


def test_softmax_of_infinities_and_denormals(interpreted: Run) -> None:
    x = np.random.default_rng(0).normal(size=(6, 21)).astype(np.float32)
    x[0, 3], x[1, 20], x[2], x[3, :10] = np.inf, np.nan, -np.inf, -np.inf
    x[4], x[5] = 1e-45, np.float32(3e38)
    got, want = interpreted(worker.softmax, x, None, 1.0, "float32", 4), reference.masked_softmax(x)
    np.testing.assert_allclose(got, want, rtol=1e-6, atol=1e-7)
    assert np.isnan(got[:2]).all()
    assert (got[2] == 0).all()


@few
@given(st.integers(0, 2**31), st.integers(9, 45), st.booleans(), st.sampled_from([1.0, 1e4]))
def test_softmax_in_pieces(interpreted: Run, seed: int, columns: int, masked: bool, scale: float) -> None:
    rng = np.random.default_rng(seed)
    x = rng.normal(size=(2, 3, columns)).astype(np.float32)
    bias = np.where(rng.random((2, 1, columns)) < 0.7, -np.inf, 0).astype(np.float32) if masked else None
    if masked:
        bias[0] = -np.inf
    got, want = interpreted(worker.long_softmax, x, bias, scale, 8), reference.masked_softmax(x, bias, scale)
    np.testing.assert_allclose(got, want, rtol=0, atol=softmax_bound(x, bias, scale, "float32"))


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


def test_checks_of_the_gpu_benchmark(interpreted: Run) -> None:
    found = interpreted(worker.benchmark_checks)
    assert len(found) > 40
    assert [(name, error, bound) for name, error, bound in found if error > bound] == []
    assert interpreted(worker.benchmark_checks_notice)


def test_the_gpu_benchmark_goes_on_where_it_stopped(interpreted: Run, tmp_path: Path) -> None:
    """A dry run: its figures are of the interpreter and mean nothing."""
    got = interpreted(worker.benchmark_dry_run, str(tmp_path))
    assert got["timed"] == [1, 3]
    kept = json.loads(got["result"])
    assert [row["case"] for row in kept["results"]] == [
        "1x1x4x16 padding", "two, 1x16, 33% padding", "two, 1x16, 33% padding, bias",
    ]  # fmt: skip
    assert kept["checks"]["wrong"] == []
    for row in kept["results"]:
        assert [c for c in row["contestants"].values() if "error" in c] == []
        for name, contestant in list(row["contestants"].items())[1:]:
            low, high = contestant["times_headway"][1:]
            assert low <= contestant["times_headway"][0] <= high, name
    assert set(kept["results"][1]["contestants"]) == {
        "headway packed", "headway padded", "torch sdpa padded", "torch sdpa, padding seen", "torch sdpa nested",
    }  # fmt: skip
    assert re.search(r"attention: two, 1x16, 33% padding +headway packed +\d", got["printed"])
    assert got["printed"].count("sm_90 columns 16: SoftmaxConfig") == 1
    tiles = json.loads(got["tiles"])
    assert set(tiles["softmax"]) == {"sm_90 columns 16"}
    assert set(tiles["attention"]) == {"sm_90 head_dim 16 bytes 2 short", "sm_90 head_dim 16 bytes 2 short bias"}
