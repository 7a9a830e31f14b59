"""Logits read as answers, against values worked out by hand."""

from types import SimpleNamespace
from typing import Any

import numpy as np
import pytest

from headway.tasks import best_answer, entity_spans, softmax


def test_softmax_is_stable_and_sums_to_one() -> None:
    logits = np.array([[0.0, np.log(3.0)], [1e4, 1e4]])
    np.testing.assert_allclose(softmax(logits), [[0.25, 0.75], [0.5, 0.5]])
    assert softmax(np.zeros((2, 3, 5))).sum(-1) == pytest.approx(np.ones((2, 3)))


TEXT = "Ada Lovelace met Charles"
OFFSETS = [(0, 0), (0, 3), (4, 8), (8, 12), (13, 16), (17, 24), (0, 0)]
LABELS = ["O", "B-PER", "I-PER"]


def entities(*labels: str, certain: float = 0.9) -> list[dict[str, Any]]:
    """Return the spans where the tokens between the special ones have these labels."""
    encoding = SimpleNamespace(offsets=OFFSETS, special_tokens_mask=[1, 0, 0, 0, 0, 0, 1])
    rows = [LABELS.index(label) for label in ("B-PER", *labels, "B-PER")]
    probabilities = np.full((len(rows), 3), (1 - certain) / 2)
    probabilities[np.arange(len(rows)), rows] = certain
    probabilities[2, rows[2]] = 0.6
    return entity_spans(TEXT, encoding, probabilities, LABELS, "O")


def test_neighbors_of_one_label_join_and_special_tokens_do_not_count() -> None:
    first, second = entities("B-PER", "I-PER", "I-PER", "O", "B-PER")
    assert first == {"label": "PER", "start": 0, "end": 12, "score": 0.6, "text": "Ada Lovelace"}
    assert (second["text"], second["score"]) == ("Charles", 0.9)


def test_a_beginning_starts_a_new_entity() -> None:
    assert [s["text"] for s in entities("B-PER", "B-PER", "I-PER", "O", "O")] == ["Ada", "Lovelace"]
    assert entities("O", "O", "O", "O", "O") == []


QUESTION_AND_CONTEXT = SimpleNamespace(
    sequence_ids=[None, 0, None, 1, 1, 1, None], offsets=[(0, 0), (0, 3), (0, 0), (0, 3), (4, 8), (8, 12), (0, 0)]
)


def test_the_best_span_lies_in_the_context_and_is_no_longer_than_allowed() -> None:
    start, end = np.zeros(7), np.zeros(7)
    start[1] = end[1] = 100  # the question
    start[3], end[5], end[4] = 5, 4, 3
    answer = best_answer("Ada Lovelace", QUESTION_AND_CONTEXT, start, end, 30)
    assert answer == {"answer": "Ada Lovelace", "start": 0, "end": 12, "score": 9.0}
    assert best_answer("Ada Lovelace", QUESTION_AND_CONTEXT, start, end, 2)["answer"] == "Ada Love"


def test_a_span_does_not_end_before_it_starts() -> None:
    start, end = np.zeros(7), np.zeros(7)
    start[5], end[3] = 5, 4
    assert best_answer("Ada Lovelace", QUESTION_AND_CONTEXT, start, end, 30)["answer"] == "lace"


def test_without_a_context_the_answer_is_empty() -> None:
    question = SimpleNamespace(sequence_ids=[None, 0, None], offsets=[(0, 0), (0, 3), (0, 0)])
    answer = best_answer("", question, np.zeros(3), np.zeros(3), 30)
    assert answer == {"answer": "", "start": 0, "end": 0, "score": float("-inf")}
