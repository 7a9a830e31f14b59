"""What a search finds among embeddings, beside the source's."""

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from scipy import stats

from headway.exporter.compress.neighbors import (
    late_similarities,
    neighbors,
    products,
    rank_correlation,
    similarities,
)
from headway.multi_vector import maxsim


def drawn(texts: int, seed: int, dimensions: int = 6) -> np.ndarray:
    return np.random.default_rng(seed).normal(size=(texts, dimensions)).astype(np.float32)


@given(st.integers(2, 30), st.integers(0, 99))
def test_the_source_itself_loses_nothing(texts: int, seed: int) -> None:
    near = similarities(drawn(texts, seed))
    found = neighbors(near, near)
    assert found.count == min(10, texts - 1)
    assert found.nearest.tolist() == found.recall.tolist() == [1.0] * texts
    assert rank_correlation(near, near) == pytest.approx(1)


@given(st.integers(4, 30), st.integers(0, 99), st.floats(0, 2))
def test_figures_are_those_counted_text_by_text(texts: int, seed: int, noise: float) -> None:
    vectors = drawn(texts, seed)
    a, b = similarities(vectors), similarities(vectors + noise * drawn(texts, seed + 100))
    found = neighbors(a, b)
    for text in range(texts):
        others = [i for i in range(texts) if i != text]
        right, ours = (sorted(others, key=lambda i: -x[text, i])[: found.count] for x in (a, b))
        assert found.nearest[text] == (right[0] == ours[0])
        assert found.recall[text] == pytest.approx(len({*right} & {*ours}) / found.count)
    upper = np.triu_indices(texts, 1)
    assert rank_correlation(a, b) == pytest.approx(stats.spearmanr(a[upper], b[upper]).statistic)


def test_texts_that_change_places_are_no_longer_found() -> None:
    vectors = drawn(200, 0)
    order = np.arange(200)
    order[:80] = np.roll(order[:80], 1)
    near = similarities(vectors)
    moved = neighbors(near, similarities(vectors[order]))
    assert moved.nearest.mean() < 0.6 and moved.recall.mean() < 0.6
    assert moved.recall[:80].mean() < moved.recall[80:].mean()


def test_of_texts_equally_near_either_is_right() -> None:
    vectors = np.array([[1, 0], [0.8, 0.6], [0.8, 0.6], [-1, 0.1]])
    other = vectors + np.array([[0, 0], [0, 0.01], [0, 0], [0, 0]])
    assert neighbors(similarities(vectors), similarities(other)).nearest[0] == 1


def test_similarity_ranks_share_ties_as_in_scipy() -> None:
    a = np.array([[1, 0.5, 0.5, 0.1], [0, 1, 0.5, 0.2], [0, 0, 1, 0.1], [0, 0, 0, 1]])
    b = np.array([[1, 0.2, 0.9, 0.9], [0, 1, 0.2, 0.2], [0, 0, 1, 0.4], [0, 0, 0, 1]])
    upper = np.triu_indices(4, 1)
    assert rank_correlation(a, b) == pytest.approx(stats.spearmanr(a[upper], b[upper]).statistic)
    assert rank_correlation(a, np.ones((4, 4))) == 0


def test_a_vector_of_zeros_is_like_no_other() -> None:
    assert similarities(np.array([[0.0, 0.0], [3.0, 4.0]])).tolist() == [[0, 0], [0, pytest.approx(1)]]


def test_products_are_parts_of_the_largest() -> None:
    vectors = np.array([[3.0, 0.0], [1.0, 2.0], [0.0, 0.0]])
    np.testing.assert_allclose(products(vectors), np.array([[9, 3, 0], [3, 5, 0], [0, 0, 0]]) / 9)
    assert not products(np.zeros((2, 3))).any()


def test_late_similarities_are_those_of_maxsim() -> None:
    rng = np.random.default_rng(0)
    texts = [rng.standard_normal((n, 4)).astype(np.float32) for n in (3, 1, 5)]
    owners = np.repeat([0, 1, 2], [3, 1, 5])
    scores = maxsim(texts, texts, mean=True)
    found = late_similarities(np.concatenate(texts), owners, 3)
    np.testing.assert_allclose(found, (scores + scores.T) / 2, atol=1e-5)
    without = late_similarities(np.concatenate([texts[0], texts[2]]), np.repeat([0, 2], [3, 5]), 3)
    assert not without[1].any() and not without[:, 1].any()
    np.testing.assert_allclose(without[0, 2], found[0, 2])
