"""The float64 definitions of the kernels, against torch in float64."""

import numpy as np
import pytest
import torch
import torch.nn.functional as F
from hypothesis import given, settings
from hypothesis import strategies as st

from headway.kernels import reference


@settings(max_examples=30, deadline=None)
@given(st.integers(0, 999), st.sampled_from([1.0, 0.125, -2.0]), st.booleans())
def test_masked_softmax_is_torchs_where_something_is_seen(seed: int, scale: float, masked: bool) -> None:
    rng = np.random.default_rng(seed)
    x, bias = rng.standard_normal((2, 3, 4, 5)), np.zeros((4, 5))
    if masked:
        bias = np.where(rng.random((4, 5)) < 0.5, -np.inf, bias)
    wanted = torch.softmax(torch.tensor(scale * x + bias), -1).numpy()
    np.testing.assert_allclose(reference.masked_softmax(x, bias, scale), np.nan_to_num(wanted), atol=1e-14)


def test_a_row_without_keys_is_zero_and_an_overflow_is_seen() -> None:
    assert not reference.masked_softmax(np.full((2, 3), -np.inf)).any()
    assert reference.masked_softmax(np.zeros((2, 0))).shape == (2, 0)
    rows = np.array([[0.0, np.inf], [0.0, np.nan]])
    assert np.isnan(reference.masked_softmax(rows)).all()


@settings(max_examples=30, deadline=None)
@given(st.integers(0, 999), st.lists(st.integers(0, 6), min_size=1, max_size=4), st.booleans(), st.booleans())
def test_packed_and_padded_attention_are_torchs_sequence_by_sequence(
    seed: int, lengths: list[int], causal: bool, biased: bool
) -> None:
    rng = np.random.default_rng(seed)
    heads, head_dim, longest = 2, 4, max(lengths)
    q, k, v = rng.standard_normal((3, len(lengths), longest, heads * head_dim))
    bias = rng.standard_normal((heads, longest, longest)) if biased else None
    padded = reference.padded_attention(q, k, v, lengths, heads, 0.5, bias, causal)
    rows = [(row, position) for row, length in enumerate(lengths) for position in range(length)]
    real = tuple(np.array(rows, int).reshape(-1, 2).T)
    ends = np.cumsum([0, *lengths])
    packed = reference.packed_attention(q[real], k[real], v[real], ends, heads, 0.5, bias, causal)
    np.testing.assert_array_equal(padded[real], packed)
    for row, length in enumerate(lengths):
        assert not padded[row, length:].any()
        parts = (torch.tensor(x[row, :length]).view(length, heads, head_dim).transpose(0, 1) for x in (q, k, v))
        added = torch.zeros(heads, length, length, dtype=torch.float64)
        if bias is not None:
            added += torch.tensor(bias[:, :length, :length])
        if causal:
            added += torch.full((length, length), -torch.inf, dtype=torch.float64).triu(1)
        wanted = F.scaled_dot_product_attention(*parts, attn_mask=added, scale=0.5).transpose(0, 1).flatten(1)
        np.testing.assert_allclose(padded[row, :length], wanted.numpy(), atol=1e-12)


def test_activations_are_torchs() -> None:
    x = np.linspace(-6, 6, 101)
    tensor = torch.tensor(x)
    wanted = {
        "none": tensor, "gelu": F.gelu(tensor), "gelu_tanh": F.gelu(tensor, approximate="tanh"), "relu": F.relu(tensor),
        "tanh": torch.tanh(tensor),
    }  # fmt: skip
    for name, values in wanted.items():
        np.testing.assert_allclose(reference.activate(x, name), values.numpy(), atol=1e-12)  # type: ignore[arg-type]
    with pytest.raises(ValueError, match="no activation 'swish'"):
        reference.activate(x, "swish")  # type: ignore[arg-type]


def test_layer_norm_is_torchs_of_the_sum() -> None:
    rng = np.random.default_rng(0)
    x, skip = rng.standard_normal((2, 5, 8))
    gamma, beta, bias = rng.standard_normal((3, 8))
    y, total = reference.skip_layer_normalization(x, skip, gamma, beta, bias, 1e-3)
    np.testing.assert_allclose(total, x + skip + bias, atol=1e-14)
    weights = (torch.tensor(w) for w in (gamma, beta))
    np.testing.assert_allclose(y, F.layer_norm(torch.tensor(total), (8,), *weights, eps=1e-3).numpy(), atol=1e-12)
    plain, _ = reference.skip_layer_normalization(x, None, gamma)
    np.testing.assert_allclose(plain, F.layer_norm(torch.tensor(x), (8,), torch.tensor(gamma)).numpy(), atol=1e-12)


def test_quantizing_rounds_halves_to_even_and_saturates() -> None:
    q = reference.quantize(np.array([-1.25, 0.25, 0.75, 200.0]), 0.5, 3)
    assert q.dtype == np.uint8 and q.tolist() == [1, 3, 5, 255]
    assert reference.quantize([-1e9, 1e9], 1.0, dtype=np.int8).tolist() == [-128, 127]
    assert reference.dequantize(q, 0.5, 3).tolist() == [-1.0, 0.0, 1.0, 126.0]
