"""Metrics equal those of scikit-learn and scipy, and the definitions of SQuAD and seqeval, on random data."""

import numpy as np
import pytest
from scipy import stats
from sklearn import metrics as sk

from headway.exporter.compress.figures import correlation, value_of
from headway.exporter.compress.rankings import ndcg
from headway.exporter.validate.metrics import (
    Metric,
    accuracy,
    binary_f1,
    entities_of,
    entity_f1,
    exact_match,
    macro_f1,
    normalized_answer,
    recall,
    reciprocal_rank,
    span_f1,
    spearman,
)

EXACT = 1e-9
SEEDS = range(60)


@pytest.mark.parametrize("seed", SEEDS)
def test_classes_and_values_are_scored_as_by_scikit_learn_and_scipy(seed: int) -> None:
    rng = np.random.default_rng(seed)
    count, classes = int(rng.integers(3, 60)), int(rng.integers(2, 6))
    given, wanted = rng.integers(0, classes, (2, count))
    assert value_of(accuracy(given, wanted), count) == pytest.approx(sk.accuracy_score(wanted, given), abs=EXACT)
    truth = sk.f1_score(wanted, given, average="macro", zero_division=0)
    assert value_of(macro_f1(given, wanted), count) == pytest.approx(truth, abs=EXACT)
    truth = sk.f1_score(wanted % 2, given % 2, zero_division=0)
    assert value_of(binary_f1(given % 2, wanted % 2), count) == pytest.approx(truth, abs=EXACT)
    a, b = rng.integers(0, 9, count).astype(float), rng.normal(size=count)
    if len(set(a)) > 1:
        assert value_of(spearman(a, b), count) == pytest.approx(stats.spearmanr(a, b)[0], abs=EXACT)
        assert value_of(correlation(a, b), count) == pytest.approx(stats.pearsonr(a, b)[0], abs=EXACT)


@pytest.mark.parametrize("seed", SEEDS)
def test_ranks_and_classes_are_those_of_the_texts_that_were_drawn(seed: int) -> None:
    rng = np.random.default_rng(seed)
    a, b = rng.integers(0, 9, 30).astype(float), rng.normal(size=30)
    given, wanted = rng.integers(0, 4, (2, 30))
    weights = rng.integers(0, 4, (1, 30)).astype(float)
    drawn = np.repeat(np.arange(30), weights[0].astype(int))
    assert spearman(a, b)(weights)[0] == pytest.approx(stats.spearmanr(a[drawn], b[drawn])[0], abs=EXACT)
    truth = sk.f1_score(wanted[drawn], given[drawn], average="macro", zero_division=0)
    assert macro_f1(given, wanted)(weights)[0] == pytest.approx(truth, abs=EXACT)


@pytest.mark.parametrize("seed", SEEDS)
def test_rankings_are_scored_as_by_scikit_learn(seed: int) -> None:
    rng = np.random.default_rng(seed)
    count = int(rng.integers(2, 40))
    relevance = rng.integers(0, 3, count).astype(float)
    relevance[0] = 1
    scores = rng.integers(0, 6, count).astype(float) if seed % 2 else rng.normal(size=count)
    assert ndcg(relevance, scores) == pytest.approx(sk.ndcg_score([relevance], [scores], k=10), abs=EXACT)
    distinct = rng.permutation(count).astype(float)
    ranked = relevance[np.argsort(-distinct)] > 0
    assert reciprocal_rank(relevance, distinct) == pytest.approx(1 / (1 + int(np.argmax(ranked))), abs=EXACT)
    assert recall(relevance, distinct) == pytest.approx(ranked[:10].sum() / ranked.sum(), abs=EXACT)


def test_rankings_without_a_relevant_text_and_with_ties() -> None:
    nothing, scores = np.zeros(3), np.array([1.0, 2.0, 3.0])
    assert (ndcg(nothing, scores), reciprocal_rank(nothing, scores), recall(nothing, scores)) == (0, 0, 0)
    assert reciprocal_rank(np.array([0.0, 1.0, 0.0]), np.array([1.0, 1.0, 0.5])) == 0.5  # a tie gains nothing


@pytest.mark.parametrize(
    ("given", "wanted", "exact", "f1"),
    [
        ("The Norman-dynasty!", ["normandynasty"], 1, 1),
        ("a big  Apple", ["the big apple", "pear"], 1, 1),
        ("in the year 1066", ["1066"], 0, 0.5),
        ("rain rain", ["rain"], 0, 2 / 3),
        ("", [], 1, 1),
        ("something", [], 0, 0),
        ("the", ["an"], 1, 1),
    ],
)
def test_answers_are_compared_as_squad_does(given: str, wanted: list[str], exact: float, f1: float) -> None:
    assert exact_match([given], [wanted])[0] == exact
    assert span_f1([given], [wanted])[0] == pytest.approx(f1, abs=EXACT)
    assert normalized_answer("The  U.S.A., an example") == "usa example"


@pytest.mark.parametrize(
    ("tags", "entities"),
    [
        (["B-a", "I-a", "O", "B-b"], {("a", 0, 1), ("b", 3, 3)}),
        (["B-a", "B-a", "I-b"], {("a", 0, 0), ("a", 1, 1), ("b", 2, 2)}),
        (["I-a", "I-a", "O"], {("a", 0, 1)}),
        (["S-a", "I-a", "E-a", "I-a"], {("a", 0, 0), ("a", 1, 2), ("a", 3, 3)}),
        (["O", "E-a", "E-a"], {("a", 1, 1), ("a", 2, 2)}),
        ([], set()),
    ],
)
def test_entities_are_those_of_seqeval(tags: list[str], entities: set[tuple[str, int, int]]) -> None:
    """The expected entities are what seqeval 1.2.2 answers, as are those of 1,500 random texts that were compared once."""
    assert entities_of(tags) == entities


def test_entities_of_all_texts_count_together() -> None:
    wanted = [["B-a", "I-a", "O"], ["B-b"]]
    given = [["B-a", "O", "O"], ["B-b"]]
    assert value_of(entity_f1(given, wanted), 2) == pytest.approx(0.5)
    assert value_of(entity_f1([["O"]], [["O"]]), 1) == 0


def test_points_are_those_of_model_and_source() -> None:
    wanted = np.array([0, 1, 1, 0])
    metric = Metric("accuracy", accuracy(np.array([0, 1, 0, 1]), wanted), accuracy(wanted, wanted), 4)
    assert (metric.points, metric.source_points) == (50, 100)
