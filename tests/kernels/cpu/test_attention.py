"""Attention against its float64 definition, on every instruction set of this processor; bad input is named."""

from typing import Any

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from headway.kernels import cpu, reference

from tests.support.cpu_kernels import SETS, library, needs_library, off_by, quick, tolerance

pytestmark = needs_library


HEAD_DIMS = (1, 7, 16, 24, 26, 32, 48, 64, 80, 96, 128)


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
        library().headway_isa(name)
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
    (full_length,) = cpu.run("PaddedAttention", [q, k, v], heads=3)
    np.testing.assert_allclose(
        full_length, reference.padded_attention(q, k, v, [length] * batch, 3, 0.25), rtol=0, atol=1e-5
    )


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
        library().headway_isa(instructions)
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


@pytest.mark.parametrize("name", ["q_scale", "k_scale", "v_scale", "y_scale"])
@pytest.mark.parametrize("value", [np.inf, -np.inf, np.nan, 0.0, -0.1, None])
def test_a_scale_that_is_no_positive_number_is_refused_and_named(name: str, value: float | None) -> None:
    x, ends = np.zeros((6, 8), np.int8), np.array([0, 2, 6], np.int32)
    scales: dict[str, Any] = {f"{n}_scale": 0.1 for n in "qkvy"}
    cpu.run("QuantizedPackedAttention", [x, x, x, ends], heads=2, **scales)
    scales[name] = value
    given_scales = {k: v for k, v in scales.items() if v is not None}
    with pytest.raises(Exception, match=f"attribute '{name}' is missing or not above 0"):
        cpu.run("QuantizedPackedAttention", [x, x, x, ends], heads=2, **given_scales)


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
