"""Texts without padding: windows of them, groups of similar length, and their rows in activations."""

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from headway.calibration import feed as module
from headway.calibration.batches import Batch
from headway.calibration.feed import Feed, TokenizedText, portions, real_rows
from headway.errors import UsageError


def test_what_counts_as_a_row() -> None:
    """By token, by token stored back to back, or by text: also where a text is as long as a vector is wide."""
    mask = np.array([[True, True, True, True], [True, False, False, False]])
    x = np.arange(24, dtype=np.float32).reshape(2, 4, 3)
    assert np.array_equal(real_rows(x, mask), x[mask])
    assert np.array_equal(real_rows(x.reshape(8, 3), mask), x[mask])
    assert np.array_equal(real_rows(x.reshape(8, 3), mask, 1), x[1, :1])
    pooled = np.arange(8, dtype=np.float32).reshape(2, 4)
    assert np.array_equal(real_rows(pooled, mask), pooled)
    assert np.array_equal(real_rows(pooled, mask, 1), pooled[1:])
    assert np.array_equal(real_rows(pooled[:, None], mask), pooled)
    for shape in ((5, 3), (2, 3, 4), (2, 6, 4, 4)):
        with pytest.raises(UsageError, match="has neither tokens nor texts"):
            real_rows(np.zeros(shape, np.float32), mask)


def test_texts_come_without_padding_in_windows_and_keep_their_numbers() -> None:
    """Of batches their own numbers, of bare arrays the numbers in which they came; rows of padding alone are no texts."""
    mask = np.array([[1, 1, 0], [0, 0, 0], [0, 1, 1]])
    feeds = {"input_ids": np.array([[5, 6, 0], [0, 0, 0], [0, 7, 8]]), "attention_mask": mask}
    taken: list[None] = []
    for batch, numbers in ((feeds, [0, 2]), (Batch(feeds, np.array([40, 41, 42])), [40, 42])):
        feed = Feed([batch])
        window = feed.next(lambda: taken.append(None))
        assert window is not None
        assert [text.row for text in window] == numbers
        assert [text.feeds["input_ids"].tolist() for text in window] == [[5, 6], [7, 8]]
        assert feed.next(lambda: None) is None
    assert len(taken) == 2


def test_windows_hold_so_many_texts_and_none_after_a_stop(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(module, "_WINDOW", 3)
    feeds = {"input_ids": np.ones((2, 4), np.int64), "attention_mask": np.ones((2, 4), np.int64)}
    feed = Feed([feeds] * 4)
    windows = [feed.next(lambda: None) for _ in range(2)]
    assert [[text.row for text in window] for window in windows if window] == [[0, 1, 2], [3, 4, 5]]
    feed.stop()
    assert feed.next(lambda: None) is None


def test_batches_of_several_choices_are_refused() -> None:
    feeds = {"attention_mask": np.ones((2, 4, 8), np.int64)}
    with pytest.raises(UsageError, match="multiple-choice models are not calibrated yet"):
        Feed([feeds]).next(lambda: None)


@given(st.lists(st.integers(1, 200), min_size=1, max_size=40))
def test_portions_hold_each_text_once_and_few_tokens(lengths: list[int]) -> None:
    window = [TokenizedText({"attention_mask": np.ones(n, np.int64)}, i) for i, n in enumerate(lengths)]
    groups = list(portions(window))
    assert sorted(text.row for group in groups for text in group) == list(range(len(lengths)))
    assert all(len(group) == 1 or len(group) * max(map(len, group)) <= 128 for group in groups)
    ordered = [len(text) for group in groups for text in group]
    assert ordered == sorted(lengths)
