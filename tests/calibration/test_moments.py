"""Second moments: exact sums in any order, near to float64 on the values themselves."""

import numpy as np
from hypothesis import given, settings
from hypothesis import strategies as st

from headway.calibration import moments as module
from headway.calibration.moments import Moments


def texts_of(seed: int, count: int, channels: int) -> list[np.ndarray]:
    rng = np.random.default_rng(seed)
    spread = np.exp(rng.normal(0, 1.5, channels))
    sizes = np.exp(rng.normal(0, 3, count))
    return [(rng.standard_normal((int(rng.integers(1, 20)), channels)) * spread * s).astype(np.float32) for s in sizes]


def summed(texts: list[np.ndarray], channels: int) -> Moments:
    moments = Moments(channels)
    for text in texts:
        moments.add(text)
    return moments


@given(st.integers(0, 40), st.integers(1, 12), st.integers(1, 9), st.sampled_from([1, 7, 1024]))
@settings(max_examples=60, deadline=None)
def test_sums_do_not_depend_on_order_or_grouping(seed: int, count: int, channels: int, rows: int) -> None:
    texts = texts_of(seed, count, channels)
    in_order = summed(texts, channels)
    order = np.random.default_rng(seed).permutation(count)
    rows_before = module._ROWS
    module._ROWS = rows
    try:
        other = summed([texts[i] for i in order[: count // 2]], channels)
        other.merge(summed([texts[i] for i in order[count // 2 :]], channels))
    finally:
        module._ROWS = rows_before
    assert other.tokens == in_order.tokens == sum(map(len, texts))
    assert np.array_equal(in_order.second_moment(), other.second_moment())
    assert np.array_equal(in_order.mean(), other.mean())


@given(st.integers(0, 40), st.integers(1, 12), st.integers(1, 9))
@settings(max_examples=60, deadline=None)
def test_near_to_float64(seed: int, count: int, channels: int) -> None:
    """Rounding moves each value by at most 2**-16 of its text's largest power of two, so errors are known."""
    texts = texts_of(seed, count, channels)
    x = np.concatenate(texts).astype(np.float64)
    steps = np.concatenate([np.full(len(t), 2.0 ** (np.frexp(np.abs(t).max())[1] - 16)) for t in texts])
    moments = summed(texts, channels)
    wanted = x.T @ x / len(x)
    allowed = (np.abs(x) * steps[:, None]).mean(0)
    bound = allowed[:, None] + allowed[None, :] + np.mean(steps**2) + 1e-6 * np.sqrt(np.outer(*[np.diag(wanted)] * 2))
    assert np.all(np.abs(moments.second_moment() - wanted) <= bound)
    assert np.all(np.abs(moments.mean() - x.mean(0)) <= steps.mean() + 1e-6 * np.abs(x).mean(0))


def test_zeros_and_tiny_values() -> None:
    zeros = summed([np.zeros((3, 2), np.float32)], 2)
    assert zeros.tokens == 3 and not zeros.second_moment().any() and not zeros.mean().any()
    tiny = np.full((2, 2), 1e-18, np.float32)
    assert np.allclose(summed([tiny], 2).second_moment(), 1e-36, rtol=1e-3)
