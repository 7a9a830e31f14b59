"""Samples of tokens: the same ones in any order and grouping, and drawn by chance."""

import numpy as np
from hypothesis import given, settings
from hypothesis import strategies as st

from headway.calibration.sample import SIZE, Sample, token_keys

RNG = np.random.default_rng(0)
TEXTS = [RNG.integers(0, 30_000, n) for n in RNG.integers(1, 60, 40)]
ROWS = [RNG.standard_normal((len(t), 3)).astype(np.float32) for t in TEXTS]


def sample(which: list[int]) -> Sample:
    drawn = Sample(3)
    for i in which:
        drawn.add(token_keys(TEXTS[i]), ROWS[i])
    return drawn


@settings(max_examples=25, deadline=None)
@given(order=st.permutations(range(len(TEXTS))), cuts=st.tuples(st.integers(0, 40), st.integers(0, 40)))
def test_the_same_tokens_in_any_order_and_grouping(order: list[int], cuts: tuple[int, int]) -> None:
    a, b = sorted(cuts)
    left, middle, right = (sample(part) for part in (order[:a], order[a:b], order[b:]))
    middle.merge(right)
    left.merge(middle)
    at_once = sample(list(range(len(TEXTS))))
    assert np.array_equal(left.keys, at_once.keys) and np.array_equal(left.rows, at_once.rows)
    keys = np.sort(np.concatenate([token_keys(t) for t in TEXTS]))
    assert np.array_equal(at_once.keys, keys[:SIZE]) and len(keys) > SIZE


def test_every_place_of_a_text_is_as_likely() -> None:
    texts = np.random.default_rng(1).integers(0, 30_000, (4000, 10))
    first = sum(int(token_keys(t).argmin()) == 0 for t in texts)
    assert abs(first - 400) < 5 * 19  # five standard deviations
