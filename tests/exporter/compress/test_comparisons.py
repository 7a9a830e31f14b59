"""Answers beside the source's: the main figure, others beside it, and what they mean."""

import re
from collections.abc import Sequence

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from scipy import stats

from headway.exporter.compress.answers import Rows
from headway.exporter.compress.comparisons import Comparison, compare_output, together
from headway.exporter.compress.figures import value_of
from headway.tasks import Scoring


def normal(*shape: int, seed: int = 0) -> np.ndarray:
    return np.random.default_rng(seed).normal(size=shape).astype(np.float32)


def compared(name: str, wanted: np.ndarray, given_: np.ndarray, scoring: Scoring | None = None) -> Comparison:
    rows = [[Rows("text", x, np.arange(len(x)))] for x in (wanted, given_)]
    return compare_output(name, *rows, len(wanted), scoring, None)


def values(comparison: Comparison) -> dict[str, float]:
    return {c.name: c.value for c in comparison.companions}


@given(st.integers(3, 40), st.integers(0, 50))
def test_the_source_itself_has_all_points(texts: int, seed: int) -> None:
    vectors = normal(texts, 5, seed=seed)
    for name, scoring in (
        ("sentence_embedding", None),
        ("logits", None),
        ("logits", Scoring("multi-label", "sigmoid")),
        ("logits", Scoring("value", "identity")),
        ("other", None),
    ):
        same = compared(name, vectors, vectors, scoring)
        assert value_of(same.statistic, texts) == pytest.approx(1)
        for companion in same.companions:
            assert companion.value == pytest.approx(0 if "difference" in companion.name else 100, abs=1e-4)


def test_embeddings_have_figures_of_retrieval() -> None:
    vectors = normal(30, 6)
    found = compared("sentence_embedding", vectors, vectors + 0.6 * normal(30, 6, seed=1))
    assert found.measure == "correlation of similarities"
    figures = values(found)
    rank, nearest, again = (
        "rank correlation of similarities",
        "texts whose nearest neighbor stays",
        "the 10 nearest found again",
    )
    assert list(figures) == [rank, nearest, again] and all(0 < v < 100 for v in figures.values())
    changed, found_again = map(float, re.findall(r"[\d.]+(?= % of them|  ?are found)", found.meaning))
    assert changed == pytest.approx(100 - figures[nearest], abs=0.05)
    assert found_again == pytest.approx(figures[again] / 10, abs=0.05)
    assert "the 4 nearest found again" in values(compared("sentence_embedding", vectors[:5], vectors[:5]))


def test_ranks_say_nothing_of_how_far_apart_similarities_are() -> None:
    """Spearman stays where the order stays; Pearson does not."""
    angles = np.linspace(0, 1, 12)[:, None] ** 1.7  # squares have equal differences, whose order rounding would decide
    wide, narrow = (np.hstack([np.cos(a), np.sin(a)]) for a in (angles, angles * 3))
    found = compared("sentence_embedding", wide, narrow)
    upper = np.triu_indices(12, 1)
    reference = stats.spearmanr((wide @ wide.T)[upper], (narrow @ narrow.T)[upper]).statistic
    assert values(found)["rank correlation of similarities"] == pytest.approx(100 * reference)
    assert value_of(found.statistic, 12) < 0.99 < reference


def test_classes_have_the_difference_of_probabilities() -> None:
    wanted = np.log(np.array([[0.6, 0.4], [0.9, 0.1], [0.2, 0.8], [0.3, 0.7]]))
    other = np.log(np.array([[0.4, 0.6], [0.9, 0.1], [0.3, 0.7], [0.3, 0.7]]))
    found = compared("logits", wanted, other, Scoring("single-label", "softmax"))
    assert value_of(found.statistic, 4) == 0.75
    assert values(found) == {
        "texts of the source's class": pytest.approx(75),
        "mean difference in the probability of the source's class": pytest.approx(100 * 0.3 / 4),
    }
    assert found.meaning == "25.00 % of the texts get another class than from the source."


def test_tokens_count_one_by_one() -> None:
    wanted = Rows("token", normal(6, 3), np.array([0, 0, 0, 0, 1, 1]))
    other = Rows("token", np.where(np.arange(6)[:, None] < 3, wanted.values, -wanted.values), wanted.owners)
    found = compare_output("logits", [wanted], [other], 2, Scoring("single-label", "softmax"), None)
    assert found.measure == "tokens of the source's class" and value_of(found.statistic, 2) == pytest.approx(0.5)
    assert found.statistic(np.array([[2.0, 0.0], [0.0, 2.0]])) == pytest.approx([0.75, 0])


def test_decisions_and_scores() -> None:
    wanted, other = np.array([[3.0, -3.0], [3.0, 3.0]]), np.array([[3.0, 3.0], [3.0, 3.0]])
    found = compared("logits", wanted, other, Scoring("multi-label", "sigmoid"))
    assert values(found)["equal decisions"] == 75 and found.meaning.startswith("25.00 % of all decisions")
    found = compared("logits", wanted, wanted + 0.5, Scoring("value", "identity"))
    assert values(found) == {"mean difference of scores": pytest.approx(0.5)} and found.companions[0].unit == ""


def test_a_trimmed_vocabulary_is_compared_by_its_old_ids() -> None:
    wanted = [Rows("token", normal(4, 6), np.array([0, 0, 1, 1]))]
    kept = [5, 1, 3]
    other = [Rows("token", wanted[0].values[:, kept], wanted[0].owners)]
    assert value_of(compare_output("logits", wanted, other, 2, None, kept).statistic, 2) == 1
    assert value_of(compare_output("logits", wanted, other, 2, None, None).statistic, 2) == 0


def test_vectors_name_the_text_that_differs_most() -> None:
    wanted = np.array([[1.0, 0.0], [0.0, 2.0], [1.0, 1.0]])
    found = compared("vectors", wanted, np.array([[1.0, 0.0], [0.0, -2.0], [2.0, 2.0]]))
    assert value_of(found.statistic, 3) == pytest.approx(1 / 3)
    assert values(found) == {"mean cosine of the text that differs most": pytest.approx(-100)}


def test_outputs_that_are_read_together_have_the_mean() -> None:
    def positions(name: str, at: Sequence[int]) -> Comparison:
        rows = [[Rows("span", np.array(x)[:, None], np.arange(4))] for x in ([0, 1, 2, 3], at)]
        return compare_output(name, *rows, 4, None, None)

    both = together([positions("start_logits", [0, 1, 2, 0]), positions("end_logits", [0, 1, 0, 0])])
    assert both.measure == "equal start, equal end" and value_of(both.statistic, 4) == pytest.approx((0.75 + 0.5) / 2)


def test_sparse_embeddings_are_compared_by_dot_products() -> None:
    vectors = np.abs(normal(20, 6))
    longer = vectors * np.linspace(1, 5, 20, dtype=np.float32)[:, None]
    rows = [[Rows("text", x, np.arange(20))] for x in (vectors, longer)]
    cosine, dot = (
        value_of(compare_output("sentence_embedding", *rows, 20, None, None, task).statistic, 20)
        for task in ("sentence-embedding", "sparse-embedding")
    )
    assert cosine == pytest.approx(1) and dot < 0.9


def test_multi_vectors_are_compared_by_maxsim() -> None:
    owners = np.repeat(np.arange(12), 3)
    vectors = normal(36, 6)
    turned = vectors @ np.linalg.qr(normal(6, 6, seed=1))[0]  # each vector is another, and all scores are the same
    rows = [[Rows("token", x, owners)] for x in (vectors, turned)]
    found = compare_output("token_embeddings", *rows, 12, None, None, "multi-vector")
    assert found.measure == "correlation of similarities" and value_of(found.statistic, 12) == pytest.approx(1)
    others = [[Rows("token", x, owners)] for x in (vectors, normal(36, 6, seed=2))]
    assert value_of(compare_output("token_embeddings", *others, 12, None, None, "multi-vector").statistic, 12) < 0.5


def test_rerankers_have_a_figure_of_their_order() -> None:
    name = "nDCG@10 of the source's order"
    scores = normal(20, 1)
    for scoring in (Scoring("value", "sigmoid"), Scoring("value", "identity")):
        assert values(compared("logits", scores, scores * 2 - 1, scoring))[name] == pytest.approx(100)
        assert values(compared("logits", scores, -scores, scoring))[name] < 70
    assert name not in values(compared("logits", normal(20, 2), normal(20, 2), Scoring("value", "identity")))
