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


def spans(labels: list[str], names: list[str], special: tuple[int, ...] = ()) -> list[tuple[str, int, int]]:
    """Return label, start and end for tokens `ab`, `cd`, … one behind the other, which have these labels."""
    text = "abcdefghijklmnopqrstuvwxyz"[: 2 * len(labels)]
    encoding = SimpleNamespace(
        offsets=[(2 * i, 2 * i + 2) for i in range(len(labels))],
        special_tokens_mask=[int(i in special) for i in range(len(labels))],
    )
    probabilities = np.eye(len(names))[[names.index(n) for n in labels]]
    found = entity_spans(text, encoding, probabilities, names, "O")
    assert all(s["text"] == text[s["start"] : s["end"]] and s["score"] == 1 for s in found)
    return [(s["label"], s["start"], s["end"]) for s in found]


NAMES = ["O", "B-PER", "I-PER", "B-ORG", "I-ORG"]


@pytest.mark.parametrize(
    ("labels", "wanted"),
    [
        ("B-PER I-PER I-PER", [("PER", 0, 6)]),
        ("B-PER B-PER I-PER", [("PER", 0, 2), ("PER", 2, 6)]),
        ("I-PER I-PER O", [("PER", 0, 4)]),
        ("B-PER I-ORG I-ORG", [("PER", 0, 2), ("ORG", 2, 6)]),
        ("I-PER B-ORG I-PER", [("PER", 0, 2), ("ORG", 2, 4), ("PER", 4, 6)]),
        ("B-PER O I-PER", [("PER", 0, 2), ("PER", 4, 6)]),
        ("O O O I-ORG", [("ORG", 6, 8)]),
        ("O O", []),
    ],
)
def test_entities_by_beginning_inside_and_outside(labels: str, wanted: list[tuple[str, int, int]]) -> None:
    assert spans(labels.split(), NAMES) == wanted


def test_a_special_token_parts_entities_and_is_none_itself() -> None:
    assert spans(["B-PER", "I-PER", "I-PER"], NAMES, special=(1,)) == [("PER", 0, 2), ("PER", 4, 6)]
    assert spans(["I-PER", "I-PER"], NAMES, special=(0, 1)) == []


def test_labels_without_a_scheme_join_with_their_neighbors() -> None:
    assert spans(["PER", "PER", "LOC", "none", "LOC"], ["none", "PER", "LOC"])[:2] == [("PER", 0, 4), ("LOC", 4, 6)]


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


@pytest.mark.parametrize(("longest", "answer"), [(1, "Ada"), (2, "Ada Love"), (3, "Ada Lovelace"), (4, "Ada Lovelace")])
def test_an_answer_has_at_most_as_many_tokens_as_asked(longest: int, answer: str) -> None:
    start, end = np.zeros(7), np.array([0.0, 0, 0, 1, 2, 3, 9])
    start[3] = 5
    assert best_answer("Ada Lovelace", QUESTION_AND_CONTEXT, start, end, longest)["answer"] == answer


def test_a_span_does_not_end_before_it_starts() -> None:
    start, end = np.zeros(7), np.zeros(7)
    start[5], end[3] = 5, 4
    assert best_answer("Ada Lovelace", QUESTION_AND_CONTEXT, start, end, 30)["answer"] == "lace"


def test_without_a_context_the_answer_is_empty() -> None:
    question = SimpleNamespace(sequence_ids=[None, 0, None], offsets=[(0, 0), (0, 3), (0, 0)])
    answer = best_answer("", question, np.zeros(3), np.zeros(3), 30)
    assert answer == {"answer": "", "start": 0, "end": 0, "score": float("-inf")}
