"""What rankings are worth, beside scikit-learn."""

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from sklearn.metrics import ndcg_score

from headway.exporter.compress.figures import value_of
from headway.exporter.compress.rankings import first_stays, mean_of_queries, ndcg, ndcg_of_order


@given(st.integers(2, 30), st.integers(0, 50))
def test_ndcg_of_an_order_is_that_of_scikit_learn(count: int, seed: int) -> None:
    rng = np.random.default_rng(seed)
    wanted, other = rng.standard_normal(count), rng.standard_normal(count)
    gains = (wanted - wanted.min()) / (wanted.max() - wanted.min())
    assert ndcg_of_order(wanted, other) == pytest.approx(ndcg_score([gains], [other], k=10))
    assert ndcg_of_order(wanted, 3 * wanted - 1) == pytest.approx(1)
    assert ndcg_of_order(np.ones(count), other) == 1


@given(st.lists(st.integers(1, 6), min_size=2, max_size=12), st.integers(0, 50))
def test_the_mean_is_that_of_queries_with_several_texts(sizes: list[int], seed: int) -> None:
    rng = np.random.default_rng(seed)
    queries = np.repeat(np.arange(len(sizes)), sizes)
    order = rng.permutation(len(queries))  # the texts of a query need not stand together
    queries = queries[order]
    relevance, scores = rng.integers(0, 3, len(queries)).astype(float), rng.normal(size=len(queries))
    found = mean_of_queries(ndcg, relevance, scores, queries)
    several = [q for q, size in enumerate(sizes) if size > 1]
    if not several:
        assert found is None
        return
    assert found is not None
    truth = [ndcg_score([relevance[queries == q]], [scores[queries == q]], k=10) for q in several]
    assert value_of(found, len(queries)) == pytest.approx(np.mean(truth))


def test_a_query_counts_as_often_as_its_first_text() -> None:
    queries = np.array([0, 0, 1, 1])
    found = mean_of_queries(ndcg, np.array([1.0, 0, 1, 0]), np.array([2.0, 1, 1, 2]), queries)
    assert found is not None
    good, bad = 1.0, 1 / np.log2(3)
    assert found(np.array([[1.0, 5, 1, 5], [3, 0, 1, 0], [0, 1, 2, 1]])) == pytest.approx(
        [(good + bad) / 2, (3 * good + bad) / 4, bad]
    )


def test_which_text_comes_first() -> None:
    wanted = np.array([0.2, 0.9, 0.9])
    assert [first_stays(wanted, np.eye(3)[i]) for i in range(3)] == [0, 1, 1]
