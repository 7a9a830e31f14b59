"""Logits read as answers, against values worked out by hand."""

from types import SimpleNamespace

import numpy as np
import pytest

from headway.tasks import Activation, Scoring, best_answer, best_of, likeliest, read_outputs, softmax


def test_softmax_is_stable_and_sums_to_one() -> None:
    logits = np.array([[0.0, np.log(3.0)], [1e4, 1e4]])
    np.testing.assert_allclose(softmax(logits), [[0.25, 0.75], [0.5, 0.5]])
    assert softmax(np.zeros((2, 3, 5))).sum(-1) == pytest.approx(np.ones((2, 3)))


@pytest.mark.parametrize(
    ("columns", "problem_type", "activation", "wanted"),
    [
        (2, None, None, Scoring("single-label", "softmax")),
        (3, "single_label_classification", "identity", Scoring("single-label", "softmax")),
        (3, "multi_label_classification", None, Scoring("multi-label", "sigmoid")),
        (3, None, "sigmoid", Scoring("multi-label", "sigmoid")),
        (3, None, "tanh", Scoring("value", "tanh")),
        (3, "regression", None, Scoring("value", "identity")),
        (1, None, None, Scoring("value", "sigmoid")),
        (1, "single_label_classification", None, Scoring("value", "sigmoid")),
        (1, None, "identity", Scoring("value", "identity")),
        (1, "regression", None, Scoring("value", "identity")),
        (1, "regression", "sigmoid", Scoring("value", "sigmoid")),
        (1, "multi_label_classification", None, Scoring("multi-label", "sigmoid")),
    ],
)
def test_labels_and_problem_type_decide(
    columns: int, problem_type: str | None, activation: Activation | None, wanted: Scoring
) -> None:
    decided = Scoring.decide(columns, problem_type, activation)
    assert decided == wanted
    assert Scoring.of(decided.record(), columns + 1) == wanted


def test_a_manifest_that_says_nothing_is_read_by_its_labels_and_an_unknown_way_is_refused() -> None:
    assert Scoring.of({}, 1) == Scoring("value", "sigmoid")
    assert Scoring.of({}, 2) == Scoring("single-label", "softmax")
    with pytest.raises(ValueError, match="ranking"):
        Scoring.of({"kind": "ranking", "activation": "softmax"}, 2)
    with pytest.raises(ValueError, match="sigmoid"):
        Scoring.of({"kind": "single-label", "activation": "sigmoid"}, 2)


def test_scores_by_activation() -> None:
    logits = np.array([[0.0, np.log(3.0)], [-1e4, 1e4]])
    np.testing.assert_allclose(Scoring("single-label", "softmax").scores(logits), [[0.25, 0.75], [0, 1]])
    np.testing.assert_allclose(Scoring("multi-label", "sigmoid").scores(logits), [[0.5, 0.75], [0, 1]])
    np.testing.assert_allclose(Scoring("value", "tanh").scores(logits), [[0, 0.8], [-1, 1]])
    np.testing.assert_array_equal(Scoring("value", "identity").scores(logits), logits)


def test_the_likeliest_come_first_and_equal_ones_by_id() -> None:
    assert [i for i, _ in likeliest(np.array([1.0, 3.0, 1.0, 2.0]), 4)] == [1, 3, 0, 2]
    assert likeliest(np.array([0.0, np.log(3.0)]), 1) == [(1, pytest.approx(0.75))]


def test_the_best_of_several_windows_is_the_first_of_the_highest() -> None:
    assert best_of([{"score": 1.0, "n": 0}, {"score": 2.0, "n": 1}, {"score": 2.0, "n": 2}])["n"] == 1


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


@pytest.mark.parametrize(
    ("names", "task", "read"),
    [
        (["last_hidden_state", "sentence_embedding"], None, ["sentence_embedding"]),
        (["last_hidden_state", "sentence_embedding"], "feature-extraction", ["sentence_embedding"]),
        (["last_hidden_state", "pooler_output"], "feature-extraction", ["last_hidden_state"]),
        (["logits", "last_hidden_state"], "text-classification", ["logits"]),
        (["logits", "last_hidden_state"], "feature-extraction", ["last_hidden_state"]),
        (["hidden", "end_logits", "start_logits"], "question-answering", ["start_logits", "end_logits"]),
        (["hidden", "end_logits", "start_logits"], None, ["start_logits", "end_logits"]),
        (["pooler_output", "embedding"], "feature-extraction", ["pooler_output", "embedding"]),
    ],
)
def test_the_outputs_that_a_task_reads(names: list[str], task: str | None, read: list[str]) -> None:
    assert read_outputs(names, task) == read
