"""The CPU operators against their float64 definitions, on every instruction set of this processor; bad input; same bits; memory."""

import ctypes
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np
import psutil
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from headway.kernels import cpu, reference
from headway.kernels.cpu import build

if cpu.library_path() is None:
    if build.compiler() is None:
        pytest.skip("no C++ compiler, so no kernels", allow_module_level=True)
    build.build(Path(build.__file__).parent / build.LIBRARY)

LIBRARY = ctypes.CDLL(str(cpu.library_path()))
LIBRARY.headway_isa.restype = ctypes.c_char_p
BEST = LIBRARY.headway_isa(None)
SETS = [s for s in (b"baseline", b"avx2", b"avx512") if LIBRARY.headway_isa(s) is not None]
LIBRARY.headway_isa(BEST)
HEAD_DIMS = (1, 7, 16, 24, 26, 32, 48, 64, 80, 96, 128)
quick = settings(max_examples=25, deadline=None)


@pytest.fixture(params=SETS, ids=lambda s: s.decode())
def isa(request: pytest.FixtureRequest) -> Iterator[str]:
    """Kernels made during the test use this instruction set."""
    LIBRARY.headway_isa(request.param)
    yield request.param.decode()
    LIBRARY.headway_isa(BEST)


def exp2(x: np.ndarray) -> np.ndarray:
    y = np.empty_like(x)
    pointer = ctypes.POINTER(ctypes.c_float)
    LIBRARY.headway_exp2(x.ctypes.data_as(pointer), y.ctypes.data_as(pointer), ctypes.c_int64(x.size))
    return y


def ulps(x: np.ndarray) -> float:
    exact = np.exp2(x.astype(np.float64))
    return float((np.abs(exp2(x) - exact) / np.spacing(exact.astype(np.float32))).max())


def test_exponential_is_within_two_ulp(isa: str) -> None:
    assert ulps(np.linspace(-126, 127, 1_000_001).astype(np.float32)) < 2
    assert ulps(np.concatenate([s * np.logspace(-40, 0, 10_001) for s in (1, -1)]).astype(np.float32)) < 2
    special = np.array([0, -np.inf, np.nan, -127, -1e30], np.float32)
    np.testing.assert_array_equal(exp2(special), np.array([1, 0, np.nan, 0, 0], np.float32))


@pytest.mark.slow
def test_exponential_at_every_float(isa: str) -> None:
    for first in range(0, np.float32(126).view(np.int32) + 1, 1 << 22):
        x = np.arange(first, min(first + (1 << 22), np.float32(126).view(np.int32) + 1), dtype=np.int32).view(
            np.float32
        )
        assert ulps(x) < 2
        assert ulps(-x) < 2


def tolerance(scores: np.ndarray, dtype: Any = np.float32) -> float:
    """float32 scores of size s are known to s * 2^-24: so are the weights, relative to themselves."""
    peak = float(np.abs(scores[np.isfinite(scores)]).max(initial=0))
    return 2e-6 + 4e-7 * peak if dtype == np.float32 else 2e-3


@quick
@given(st.data())
def test_masked_softmax(data: st.DataObject) -> None:
    shape = [
        *data.draw(st.lists(st.integers(0, 5), max_size=3)),
        data.draw(st.sampled_from([1, 2, 3, 15, 16, 17, 64, 65, 100, 257])),
    ]
    rng = np.random.default_rng(data.draw(st.integers(0, 999)))
    dtype = data.draw(st.sampled_from([np.float32, np.float32, np.float16]))
    scale = data.draw(
        st.sampled_from([1.0, 0.125, -0.7, 30.0] if dtype == np.float16 else [1.0, 0.125, -0.7, 1e4, 0.0])
    )
    x = rng.standard_normal(shape).astype(dtype)
    bias = None
    if data.draw(st.booleans()):
        spread = [d if data.draw(st.booleans()) else 1 for d in shape[data.draw(st.integers(0, len(shape) - 1)) :]]
        bias = np.where(rng.random(spread) < 0.4, -np.inf, rng.standard_normal(spread)).astype(dtype)
    for name in SETS:
        LIBRARY.headway_isa(name)
        (y,) = cpu.run("MaskedSoftmax", [x, bias], scale=scale)
        wanted = reference.masked_softmax(x, bias, np.float32(scale))
        assert y.shape == x.shape
        assert y.dtype == dtype
        np.testing.assert_allclose(y, wanted, rtol=0, atol=tolerance(scale * x.astype(np.float64), dtype))


def test_softmax_of_special_values(isa: str) -> None:
    inf = np.inf
    x = np.full((7, 37), -inf, np.float32)
    x[1, 3] = 0  # one key alone
    x[2] = np.float32(1e-42)  # denormals
    x[3], x[3, 5] = 0, inf
    x[4], x[4, 36] = 0, np.nan
    x[5] = np.float32(1e38)
    x[6] = np.linspace(-200, 0, 37)
    (y,) = cpu.run("MaskedSoftmax", [x])
    np.testing.assert_allclose(y, reference.masked_softmax(x), rtol=0, atol=1e-6)
    assert not y[0].any()
    assert y[1, 3] == 1
    assert np.isnan(y[3:5]).all()
    bias = np.full((1, 37), -inf, np.float32)
    assert not cpu.run("MaskedSoftmax", [x[5:6], bias])[0].any()
    assert np.isnan(cpu.run("MaskedSoftmax", [x[5:6]], scale=1e4)[0]).all()  # an overflow stays visible


def test_a_large_softmax_gives_the_bits_of_its_parts(isa: str) -> None:
    """Results beyond the size of caches are written past them."""
    x = np.random.default_rng(0).standard_normal((4200, 2048), np.float32)
    (whole,) = cpu.run("MaskedSoftmax", [x, x[:1]], scale=3.0, threads=2)
    for first, count in ((0, 1), (1, 6), (4100, 100)):
        (part,) = cpu.run("MaskedSoftmax", [x[first : first + count], x[:1]], scale=3.0)
        np.testing.assert_array_equal(whole[first : first + count], part)


@st.composite
def attention_cases(draw: st.DrawFn) -> dict[str, Any]:
    rng = np.random.default_rng(draw(st.integers(0, 9999)))
    head_dim, heads = draw(st.sampled_from(HEAD_DIMS)), draw(st.integers(1, 5))
    lengths = draw(
        st.lists(st.sampled_from([0, 1, 2, 3, 15, 16, 17, 31, 32, 33, 47, 65, 129, 150]), min_size=1, max_size=4)
    )
    ends = np.concatenate([[0], np.cumsum(lengths)]).astype(np.int32)
    dtype = draw(st.sampled_from([np.float32, np.float32, np.float16]))
    q, k, v = (rng.standard_normal((ends[-1], heads * head_dim)).astype(dtype) for _ in range(3))
    positions, bias = max(lengths) + draw(st.integers(0, 3)), None
    if draw(st.booleans()):
        bias = rng.standard_normal((draw(st.sampled_from([1, heads])), positions, positions)).astype(np.float32)
        bias[rng.random(bias.shape) < 0.3] = -np.inf
    scale = draw(st.sampled_from([0.1, head_dim**-0.5, 1.0] + ([1e4] if dtype == np.float32 else [])))
    window = draw(st.sampled_from([-1, -1, 0, 5, 40]))
    return {
        "q": q,
        "k": k,
        "v": v,
        "ends": ends,
        "heads": heads,
        "scale": scale,
        "bias": bias,
        "causal": draw(st.booleans()),
        "window": window,
    }


def with_window(bias: np.ndarray | None, window: int, positions: int) -> np.ndarray | None:
    if window < 0:
        return bias
    at = np.arange(positions)
    band = np.where(np.abs(at[:, None] - at) <= window, 0, -np.inf)[None]
    return band if bias is None else bias + band


@quick
@given(attention_cases())
def test_packed_attention(case: dict[str, Any]) -> None:
    q, k, v, ends, heads, scale = (case[n] for n in ("q", "k", "v", "ends", "heads", "scale"))
    positions = case["bias"].shape[-1] if case["bias"] is not None else int(np.diff(ends).max())
    bias = with_window(case["bias"], case["window"], positions)
    wanted = reference.packed_attention(q, k, v, ends, heads, np.float32(scale), bias, case["causal"])
    # What is uncertain about a score is relative to the sum of the products' sizes.
    sizes = (
        scale
        * np.linalg.norm(q.astype(np.float64), axis=1).max(initial=0)
        * np.linalg.norm(k.astype(np.float64), axis=1).max(initial=0)
    )
    allowed = tolerance(np.array([sizes]), q.dtype) * max(1.0, float(np.abs(v).max(initial=0)))
    inputs = [q, k, v, ends, case["bias"]]
    options = {"heads": heads, "scale": scale, "causal": int(case["causal"]), "window": case["window"]}
    for name in SETS:
        LIBRARY.headway_isa(name)
        (y,) = cpu.run("PackedAttention", inputs, **options)
        assert y.dtype == q.dtype
        np.testing.assert_allclose(y, wanted, rtol=0, atol=allowed)
        assert np.isfinite(y).all()


@quick
@given(st.integers(0, 999), st.integers(1, 3), st.integers(1, 70), st.booleans(), st.booleans())
def test_padded_attention(seed: int, batch: int, length: int, causal: bool, with_bias: bool) -> None:
    rng = np.random.default_rng(seed)
    q, k, v = (rng.standard_normal((batch, length, 3 * 16)).astype(np.float32) for _ in range(3))
    lengths = rng.integers(0, length + 1, batch).astype(np.int32)
    bias = rng.standard_normal((3, length, length)).astype(np.float32) if with_bias else None
    (y,) = cpu.run("PaddedAttention", [q, k, v, lengths, bias], heads=3, causal=int(causal))
    np.testing.assert_allclose(
        y, reference.padded_attention(q, k, v, lengths, 3, 0.25, bias, causal), rtol=0, atol=1e-5
    )
    (whole,) = cpu.run("PaddedAttention", [q, k, v], heads=3)
    np.testing.assert_allclose(whole, reference.padded_attention(q, k, v, [length] * batch, 3, 0.25), rtol=0, atol=1e-5)


def off_by(found: np.ndarray, wanted: np.ndarray) -> tuple[int, float]:
    """Largest difference of two arrays of bytes, and the part of them that differs."""
    difference = np.abs(found.astype(int) - wanted.astype(int))
    return int(difference.max(initial=0)), float(np.mean(difference != 0)) if difference.size else 0.0


@quick
@given(st.integers(0, 999), st.sampled_from([np.uint8, np.int8]), st.sampled_from([16, 26, 32, 64]), st.integers(1, 3))
def test_bytes_in_and_out(seed: int, dtype: Any, head_dim: int, heads: int) -> None:
    """Within one step of the rounded definition, and nearly always on it."""
    rng = np.random.default_rng(seed)
    ends = np.concatenate([[0], np.cumsum(rng.integers(0, 60, 3))]).astype(np.int32)
    zero, step = (113, 0.03) if dtype == np.uint8 else (-5, 0.03)
    x = rng.standard_normal((3, ends[-1], heads * head_dim))
    q, k, v = (reference.quantize(each, step, zero, dtype) for each in x)
    options = {"heads": heads, "y_scale": 0.01, "y_zero_point": zero + 2}
    sides = {f"{n}_{what}": value for n in "qkv" for what, value in (("scale", step), ("zero_point", zero))}
    q64, k64, v64 = (reference.dequantize(each, float(np.float32(step)), zero) for each in (q, k, v))
    name = "PackedAttentionToUint8" if dtype == np.uint8 else "PackedAttentionToInt8"
    for instructions in SETS:
        LIBRARY.headway_isa(instructions)
        (y,) = cpu.run("QuantizedPackedAttention", [q, k, v, ends], **options, **sides)
        exact = reference.packed_attention(q64, k64, v64, ends, heads, head_dim**-0.5)
        worst, part = off_by(y, reference.quantize(exact, 0.01, zero + 2, dtype))
        assert worst <= 1
        assert part < 0.01
        q32, k32, v32 = (each.astype(np.float32) for each in (q64, k64, v64))
        (y,) = cpu.run(name, [q32, k32, v32, ends], outputs=[dtype], **options)
        assert off_by(y, reference.quantize(exact, 0.01, zero + 2, dtype))[0] <= 1
        scores = rng.standard_normal((5, 70)).astype(np.float32)
        (y,) = cpu.run(
            name.replace("PackedAttention", "MaskedSoftmax"),
            [scores],
            outputs=[dtype],
            y_scale=1 / 256,
            y_zero_point=-128 * (zero < 0),
        )
        worst, part = off_by(y, reference.quantize(reference.masked_softmax(scores), 1 / 256, -128 * (zero < 0), dtype))
        assert worst <= 1
        assert part < 0.01


def test_a_long_sequence(isa: str) -> None:
    rng = np.random.default_rng(0)
    q, k, v = (rng.standard_normal((4096, 16)).astype(np.float32) for _ in range(3))
    ends = np.array([0, 4096], np.int32)
    (y,) = cpu.run("PackedAttention", [q, k, v, ends], heads=1)
    np.testing.assert_allclose(y, reference.packed_attention(q, k, v, ends, 1, 0.25), rtol=0, atol=5e-6)


def test_attention_to_nothing_and_to_nonsense(isa: str) -> None:
    """Queries whose keys are all masked give zeros; a NaN or an infinite score reaches its own query only."""
    rng = np.random.default_rng(0)
    q, k, v = (rng.standard_normal((40, 32)).astype(np.float32) for _ in range(3))
    ends = np.array([0, 40], np.int32)
    bias = np.zeros((1, 40, 40), np.float32)
    bias[0, 7] = -np.inf
    q[11, 3] = np.nan
    bias[0, 20, 4] = np.inf
    (y,) = cpu.run("PackedAttention", [q, k, v, ends, bias], heads=1)
    wanted = reference.packed_attention(q, k, v, ends, 1, 32**-0.5, bias)
    assert not y[7].any()
    assert sorted(set(np.flatnonzero(np.isnan(y).any(1)))) == [11, 20]
    np.testing.assert_allclose(y, wanted, rtol=0, atol=1e-5)
    (y,) = cpu.run("PackedAttention", [q, k * np.float32(1e-42), v, ends], heads=1)
    np.testing.assert_allclose(np.delete(y, 11, 0), np.broadcast_to(v.mean(0), (39, 32)), rtol=0, atol=1e-6)


def test_every_number_of_threads_gives_the_same_bits() -> None:
    rng = np.random.default_rng(0)
    lengths = [300, 1, 0, 77, 512]
    ends = np.concatenate([[0], np.cumsum(lengths)]).astype(np.int32)
    q, k, v = (rng.standard_normal((ends[-1], 4 * 32)).astype(np.float32) for _ in range(3))
    x = rng.standard_normal((64, 5000)).astype(np.float32)
    attended = [cpu.run("PackedAttention", [q, k, v, ends], heads=4, threads=t)[0] for t in (1, 2, 3, 4)]
    softened = [cpu.run("MaskedSoftmax", [x, x[:1]], threads=t)[0] for t in (1, 2, 3, 4)]
    normed = [cpu.run("SkipLayerNormalization", [x, -x, x[0], None, x[1]], threads=t)[0] for t in (1, 2, 3, 4)]
    activated = [cpu.run("BiasActivation", [x, x[1]], activation="gelu", threads=t)[0] for t in (1, 2, 3, 4)]
    for results in (attended, softened, normed, activated):
        for other in results[1:]:
            np.testing.assert_array_equal(results[0], other)


WIDTHS = st.sampled_from([1, 2, 15, 16, 17, 64, 100, 257, 384])


@quick
@given(st.integers(0, 999), st.integers(0, 40), WIDTHS, st.booleans(), st.booleans(), st.booleans())
def test_skip_layer_normalization(seed: int, rows: int, width: int, skips: bool, shifted: bool, biased: bool) -> None:
    rng = np.random.default_rng(seed)
    x, skip = (rng.standard_normal((2, rows, width)) * 10.0 ** rng.integers(-3, 4)).astype(np.float32)
    gamma, beta, bias = rng.standard_normal((3, width)).astype(np.float32)
    inputs = [x, skip if skips else None, gamma, beta if shifted else None, bias if biased else None]
    wanted, total = reference.skip_layer_normalization(*inputs, epsilon=np.float32(1e-12))
    # What is uncertain about a sum is relative to its terms, and grows as far as the norm raises them.
    spread = total.std(-1, keepdims=True)
    sizes = np.abs(x) + np.abs(skip) * skips + np.abs(bias) * biased
    allowed = (
        2e-6 * (1 + sizes.max(-1, keepdims=True, initial=0) / np.maximum(spread, 1e-6)) * np.abs(gamma).max() + 1e-6
    )
    for name in SETS:
        LIBRARY.headway_isa(name)
        y, s = cpu.run("SkipLayerNormalization", inputs, outputs=[np.float32] * 2, epsilon=1e-12)
        (alone,) = cpu.run("SkipLayerNormalization", inputs, epsilon=1e-12)
        np.testing.assert_array_equal(alone, y)
        assert (np.abs(y - wanted) <= allowed).all()
        np.testing.assert_allclose(s, total, rtol=0, atol=3e-7 * float(sizes.max(initial=0)))


@quick
@given(st.integers(0, 999), st.integers(0, 40), WIDTHS, st.sampled_from(["none", "gelu", "gelu_tanh", "relu", "tanh"]))
def test_bias_activation(seed: int, rows: int, width: int, activation: reference.Activation) -> None:
    rng = np.random.default_rng(seed)
    x = (rng.standard_normal((rows, width)) * 10.0 ** rng.integers(-3, 3)).astype(np.float32)
    bias = rng.standard_normal(width).astype(np.float32) if seed % 3 else None
    total = x + bias if bias is not None else x  # in float32, as it is there
    for name in SETS:
        LIBRARY.headway_isa(name)
        (y,) = cpu.run("BiasActivation", [x, bias], activation=activation)
        wanted = reference.activate(total, activation)
        np.testing.assert_allclose(y, wanted, rtol=3e-7, atol=3e-7 * float(np.abs(total).max(initial=0)))


@quick
@given(
    st.integers(0, 999),
    st.integers(0, 4),
    st.integers(1, 9),
    st.sampled_from([np.float32, np.float16, np.int8, np.uint8]),
)
def test_padding_goes_and_comes_back(seed: int, batch: int, length: int, dtype: Any) -> None:
    rng = np.random.default_rng(seed)
    x = rng.integers(0, 100, (batch, length, 3)).astype(dtype)
    mask = rng.integers(0, 2, (batch, length))
    packed, ends = cpu.run("RemovePadding", [x, mask], outputs=[dtype, np.int32])
    np.testing.assert_array_equal(packed, x[mask.astype(bool)])
    np.testing.assert_array_equal(ends, np.concatenate([[0], np.cumsum(mask.sum(1))]))
    (back,) = cpu.run("RestorePadding", [packed, mask])
    np.testing.assert_array_equal(back, x * mask[:, :, None].astype(dtype))
    if dtype == np.float32:
        (sums,) = cpu.run("PoolTokens", [packed, ends], mode="sum")
        np.testing.assert_allclose(sums, (x * mask[:, :, None]).sum(1), rtol=1e-6)
        (first,) = cpu.run("PoolTokens", [packed, ends], mode="first")
        for row, kept in enumerate(mask.astype(bool)):
            np.testing.assert_array_equal(first[row], x[row, kept][0] if kept.any() else 0 * first[row])


def _attention_inputs(**changed: Any) -> dict[str, Any]:
    x = np.zeros((6, 8), np.float32)
    return {"q": x, "k": x, "v": x, "cu_seqlens": np.array([0, 2, 6], np.int32), "bias": None, "heads": 2} | changed


WRONG = {
    "k": (_attention_inputs(k=np.zeros((5, 8), np.float32)), "'k'"),
    "v": (_attention_inputs(v=np.zeros((6, 4), np.float32)), "'v'"),
    "rank": (_attention_inputs(q=np.zeros((1, 6, 8), np.float32)), "'q'"),
    "falling": (_attention_inputs(cu_seqlens=np.array([0, 4, 2, 6], np.int32)), "'cu_seqlens' falls"),
    "negative": (_attention_inputs(cu_seqlens=np.array([0, -1, 6], np.int32)), "'cu_seqlens' falls"),
    "start": (_attention_inputs(cu_seqlens=np.array([1, 6], np.int32)), "'cu_seqlens' starts"),
    "end": (_attention_inputs(cu_seqlens=np.array([0, 7], np.int32)), "'cu_seqlens' ends"),
    "no ends": (_attention_inputs(cu_seqlens=np.zeros(0, np.int32)), "'cu_seqlens'"),
    "heads": (_attention_inputs(heads=3), "3 heads"),
    "head_dim": (
        _attention_inputs(
            q=np.zeros((6, 514), np.float32), k=np.zeros((6, 514), np.float32), v=np.zeros((6, 514), np.float32)
        ),
        "257",
    ),
    "bias": (_attention_inputs(bias=np.zeros((2, 3, 4), np.float32)), "'bias'"),
    "bias heads": (_attention_inputs(bias=np.zeros((3, 4, 4), np.float32)), "'bias'"),
}


@pytest.mark.parametrize("what", WRONG)
def test_wrong_input_is_a_status_that_names_op_and_tensor(what: str) -> None:
    values, message = WRONG[what]
    inputs = [values[n] for n in ("q", "k", "v", "cu_seqlens", "bias")]
    with pytest.raises(Exception, match="PackedAttention") as caught:
        cpu.run("PackedAttention", inputs, heads=values["heads"])
    assert message in str(caught.value)


def test_wrong_dtypes_and_shapes_elsewhere() -> None:
    x = np.zeros((2, 3, 4), np.float32)
    with pytest.raises(Exception, match=r"(?s)double.*MaskedSoftmax"):
        cpu.run("MaskedSoftmax", [x.astype(np.float64)])
    with pytest.raises(Exception, match=r"MaskedSoftmax.*'bias'"):
        cpu.run("MaskedSoftmax", [x, x[:, :2]])
    with pytest.raises(Exception, match=r"PaddedAttention.*'lengths' has 4"):
        cpu.run("PaddedAttention", [x, x, x, np.array([4, 1], np.int32)], heads=1)
    with pytest.raises(Exception, match=r"RemovePadding.*'x'"):
        cpu.run("RemovePadding", [x, np.ones((2, 2), np.int64)], outputs=[np.float32, np.int32])
    with pytest.raises(Exception, match=r"RemovePadding.*row 1"):
        cpu.run("RemovePadding", [x, np.array([[1, 1, 0], [0, 1, 1]])], outputs=[np.float32, np.int32], ordered=1)
    with pytest.raises(Exception, match=r"RestorePadding.*'packed'"):
        cpu.run("RestorePadding", [x[0], np.ones((2, 2), np.int64)])
    vector = np.zeros(4, np.float32)
    with pytest.raises(Exception, match=r"SkipLayerNormalization.*'skip'"):
        cpu.run("SkipLayerNormalization", [x, x[:1], vector])
    with pytest.raises(Exception, match=r"SkipLayerNormalization.*'gamma'"):
        cpu.run("SkipLayerNormalization", [x, x, vector[:3]])
    with pytest.raises(Exception, match=r"SkipLayerNormalization.*'bias'"):
        cpu.run("SkipLayerNormalization", [x, None, vector, None, x])
    with pytest.raises(Exception, match=r"BiasActivation.*'bias'"):
        cpu.run("BiasActivation", [x, vector[:1]], activation="gelu")
    with pytest.raises(Exception, match=r"BiasActivation.*'silu'"):
        cpu.run("BiasActivation", [x, vector], activation="silu")
    with pytest.raises(Exception, match=r"PoolTokens.*'mode'"):
        cpu.run("PoolTokens", [x[0], np.array([0, 3], np.int32)], mode="median")


@settings(max_examples=150, deadline=None)
@given(st.data())
def test_random_shapes_never_crash(data: st.DataObject) -> None:
    """Whatever the shapes, the answer is right or a status."""
    shapes = st.lists(st.integers(0, 6), min_size=2, max_size=2).map(tuple)
    q, k, v = (np.zeros(data.draw(shapes), np.float32) for _ in range(3))
    ends = np.array(data.draw(st.lists(st.integers(-3, 8), max_size=4)), np.int32)
    bias = data.draw(
        st.none() | st.lists(st.integers(0, 4), min_size=3, max_size=3).map(lambda s: np.zeros(s, np.float32))
    )
    try:
        (y,) = cpu.run("PackedAttention", [q, k, v, ends, bias], heads=data.draw(st.integers(0, 3)))
        assert y.shape == q.shape
    except Exception as error:  # the runtime's own exception types share no base
        assert "PackedAttention" in str(error)


def test_calls_leave_no_memory_behind() -> None:
    rng = np.random.default_rng(0)
    q = rng.standard_normal((50, 32)).astype(np.float32)
    session = cpu.open_session("PackedAttention", [q, q, q, np.zeros(2, np.int32)], heads=2)
    bad = np.array([0, 9, 3, 50], np.int32)

    def calls(count: int) -> int:
        for i in range(count):
            session([q, q, q, np.array([0, i % 51, 50], np.int32)])
            if i % 10 == 0:
                with pytest.raises(Exception, match="falls"):
                    session([q, q, q, bad])
        return psutil.Process().memory_info().rss

    before = calls(500)
    assert calls(5000) - before < 4e6
