"""Answers as columns: those of the bundle, whatever the batches."""

from itertools import pairwise
from pathlib import Path

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

import headway
from headway.bulk.texts_to_columns import TextsToColumns, batches
from headway.errors import UsageError
from headway.exporter.export import export
from headway.exporter.recipe.recipe import Recipe

from tests.support.retrieval_models import splade

TEXTS = ["the price of bread", "rain", "a small model of language runs with time " * 20, "rain and bread", ""]


@given(lengths=st.lists(st.integers(1, 40), max_size=50), budget=st.integers(1, 100))
def test_batches_hold_each_row_once_within_the_budget(lengths: list[int], budget: int) -> None:
    found = batches(lengths, budget)
    assert sorted(int(i) for rows in found for i in rows) == list(range(len(lengths)))
    for rows in found:
        assert len(rows) == 1 or len(rows) * max(lengths[i] for i in rows) <= budget
    longest = [max(lengths[i] for i in rows) for rows in found]
    assert longest == sorted(longest)
    for one, following in pairwise(found):  # the next row would not have fitted
        assert (len(one) + 1) * lengths[following[0]] > budget


@pytest.mark.parametrize("lanes", [1, 3])
def test_embeddings_are_the_bundle_s(embedder: Path, lanes: int) -> None:
    runs = TextsToColumns(embedder, lanes=lanes)
    runs.budget = 40
    answers = runs(TEXTS)
    expected = headway.open(embedder)(TEXTS)
    np.testing.assert_allclose(answers.columns["embedding"], expected["sentence_embedding"], atol=1e-5)
    assert list(answers.columns["truncated"]) == [False, False, True, False, False] and answers.truncated == 1
    assert answers.tokens == sum(len(e.ids) for e in runs.bundle.encoder.encode(TEXTS))
    assert runs([]).columns["embedding"].shape == (0, 32) and runs([]).truncated == 0


def test_embeddings_in_fewer_bytes(embedder: Path) -> None:
    expected = TextsToColumns(embedder)(TEXTS).columns["embedding"]
    half = TextsToColumns(embedder, dtype="float16")(TEXTS).columns["embedding"]
    assert half.dtype == np.float16 and np.array_equal(half, expected.astype(np.float16))
    columns = TextsToColumns(embedder, dtype="int8")(TEXTS).columns
    integers, scale = columns["embedding"], columns["embedding_scale"]
    assert integers.dtype == np.int8 and np.abs(integers).max(axis=1).tolist() == [127] * len(TEXTS)
    assert np.abs(integers * scale[:, None] - expected).max() <= scale.max() / 2 * (1 + 1e-5)


def test_prompts_stand_before_texts(embedder: Path) -> None:
    runs = TextsToColumns(embedder)
    runs._front = "rain "
    np.testing.assert_allclose(
        runs(["bread"]).columns["embedding"], TextsToColumns(embedder)(["rain bread"]).columns["embedding"]
    )
    with pytest.raises(UsageError, match="no prompt 'passage'"):
        TextsToColumns(embedder, prompt_name="passage")


def test_classes_have_label_and_score(classifier: Path, reranker: Path) -> None:
    columns = TextsToColumns(classifier)(TEXTS).columns
    expected = headway.open(classifier).labels(TEXTS)
    assert columns["label"] == [label for label, _ in expected]
    np.testing.assert_allclose(columns["score"], [score for _, score in expected], atol=1e-5)
    values = TextsToColumns(reranker)(TEXTS).columns
    assert set(values) == {"score", "truncated"}
    np.testing.assert_allclose(
        values["score"], [next(iter(s.values())) for s in headway.open(reranker).scores(TEXTS)], atol=1e-5
    )


def test_labels_that_may_all_hold_have_a_column_each(classifier: Path) -> None:
    runs = TextsToColumns(classifier)
    runs.bundle.manifest.scoring = {"kind": "multi-label", "activation": "sigmoid"}
    columns = runs(TEXTS).columns
    assert set(columns) == {"truncated", "score_LABEL_0", "score_LABEL_1"}
    np.testing.assert_allclose(
        columns["score_LABEL_1"], 1 / (1 + np.exp(-headway.open(classifier)(TEXTS)["logits"][:, 1])), atol=1e-5
    )


def test_sparse_embeddings_are_the_bundle_s(tmp_path: Path) -> None:
    path = export(Recipe(source=str(splade(tmp_path))), tmp_path / "bundle").path
    runs = TextsToColumns(path, lanes=2)
    runs.budget = 40
    columns = runs(TEXTS).columns
    for i, one in enumerate(headway.open(path).sparse(TEXTS)):
        assert columns["indices"][i].tolist() == one.indices.tolist()
        np.testing.assert_allclose(columns["weights"][i], one.weights, atol=1e-5)


def test_entities_are_the_bundle_s(tagger: Path) -> None:
    found = TextsToColumns(tagger, lanes=2)(TEXTS).columns["entities"]
    expected = headway.open(tagger).entities(TEXTS)
    assert [[(e["label"], e["start"], e["end"]) for e in row] for row in found] == [
        [(e["label"], e["start"], e["end"]) for e in row] for row in expected
    ]


def test_what_is_not_answered_is_refused(embedder: Path, classifier: Path, tmp_path: Path) -> None:
    with pytest.raises(UsageError, match="a dtype is for sentence-embedding"):
        TextsToColumns(classifier, dtype="int8")
    with pytest.raises(UsageError, match="text 1 is of type NoneType"):
        TextsToColumns(embedder)(["a", None])  # type: ignore[list-item]
