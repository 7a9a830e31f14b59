"""Answers of a model, row by row."""

import numpy as np

from headway.exporter.compress.answers import Rows, joined, matched, passed_through, read_rows

MASK = np.array([[1, 1, 1], [1, 0, 0]])


def test_rows_are_tokens_positions_or_texts() -> None:
    tokens = np.arange(12.0).reshape(2, 3, 2)
    rows = read_rows("logits", tokens, MASK, 5)
    assert rows.kind == "token" and rows.owners.tolist() == [5, 5, 5, 6]
    assert rows.values.tolist() == tokens[MASK > 0].tolist()
    rows = read_rows("start_logits", np.array([[0.0, 3, 1], [1, 9, 9]]), MASK, 0)
    assert (rows.kind, rows.values.tolist()) == ("span", [[1], [0]])  # never on padding
    rows = read_rows("sentence_embedding", np.ones((2, 3)), MASK, 0)
    assert rows.kind == "text" and rows.owners.tolist() == [0, 1]  # as wide as the batch is long, and no tokens
    assert read_rows("score", np.ones(2), MASK, 0).values.shape == (2, 1)


def test_answers_are_kept_where_a_runner_uses_its_array_again() -> None:
    array = np.zeros((2, 3))
    rows = read_rows("sentence_embedding", array, MASK, 0)
    array[:] = 9
    assert rows.values.max() == 0


def test_texts_that_have_other_tokens_are_left_out() -> None:
    wanted = Rows("token", np.arange(6.0)[:, None], np.array([0, 0, 1, 2, 2, 2]))
    given = Rows("token", np.arange(10.0, 17)[:, None], np.array([0, 0, 1, 1, 2, 2, 2]))
    a, b = matched(wanted, given)
    assert a.owners.tolist() == b.owners.tolist() == [0, 0, 2, 2, 2]
    assert a.values[:, 0].tolist() == [0, 1, 3, 4, 5] and b.values[:, 0].tolist() == [10, 11, 14, 15, 16]
    assert matched(wanted, wanted) == (wanted, wanted)


def test_figures_of_rows_are_summed_by_text_and_batches_joined() -> None:
    first, second = (Rows("text", np.full((2, 1), x), np.array([i, i + 1])) for i, x in ((0, 1.0), (2, 2.0)))
    assert second.per_text(np.array([3.0, 4.0]), 4).tolist() == [0, 0, 3, 4]
    assert joined([first, second]).tolist() == [[1], [1], [2], [2]]


def test_what_is_passed_through_equals_an_input() -> None:
    feeds = {"attention_mask": MASK, "input_ids": MASK + 3}
    outputs = {"mask": MASK.astype(np.float32), "ids": MASK + 4, "pooled": np.ones((2, 1))}
    assert [passed_through(name, outputs, feeds) for name in outputs] == [True, False, False]
