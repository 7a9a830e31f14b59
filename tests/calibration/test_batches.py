"""Batches of text: samples with the lengths of all, and streams that keep their order."""

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from headway.calibration.batches import check_known, draw, make_batches, stream_batches
from headway.errors import HeadwayWarning, UsageError

from tests.support.variants import batch


@given(st.integers(1, 400), st.integers(1, 60), st.integers(0, 5))
@settings(max_examples=60, deadline=None)
def test_samples_have_the_lengths_of_all(count: int, samples: int, seed: int) -> None:
    lengths = np.random.default_rng(seed).lognormal(3, 0.8, count).astype(np.int64)
    chosen = draw(lengths, samples, seed)
    assert len(set(chosen.tolist())) == len(chosen) == min(samples, count)
    assert np.array_equal(chosen, draw(lengths, samples, seed))
    ordered, drawn = np.sort(lengths), np.sort(lengths[chosen])
    edges = np.arange(len(drawn) + 1) * count // len(drawn)
    assert np.all(drawn >= ordered[edges[:-1]]) and np.all(drawn <= ordered[edges[1:] - 1])


def test_streamed_batches_are_all_texts_in_order() -> None:
    def encode(texts, longest):
        width = max(len(t.split()) for t in texts)
        mask = np.array([[1] * len(t.split()) + [0] * (width - len(t.split())) for t in texts])
        return {"input_ids": mask, "attention_mask": mask}

    lines = (" ".join(["w"] * (1 + n % 5)) for n in range(10))
    batches = list(stream_batches(encode, lines, 64, size=4))
    assert [len(b.rows) for b in batches] == [4, 4, 2]
    assert np.concatenate([b.rows for b in batches]).tolist() == list(range(10))


def encode(texts, longest):
    rows = [[1, *[5 + len(w) for w in t.split()], 2][:longest] for t in texts]
    return batch(rows).feeds


def test_batches_hold_similar_lengths_once_each() -> None:
    lines = [" ".join(["word"] * n) for n in (1, 30, 2, 28, 3, 29, 1)]
    made = make_batches(encode, lines, longest=64, tokens=100)
    assert sorted(np.concatenate([b.rows for b in made])) == list(range(7))
    assert all(b.mask.size <= 100 for b in made)
    assert sum(b.mask.sum() for b in made) == sum(len(line.split()) + 2 for line in lines)
    drawn = make_batches(encode, lines, longest=64, samples=3, seed=1)
    assert sum(len(b.rows) for b in drawn) == 3
    again = make_batches(encode, lines, longest=64, samples=3, seed=1)
    assert all(np.array_equal(a.rows, b.rows) for a, b in zip(drawn, again, strict=True))
    few = make_batches(encode, lines, longest=64, most_tokens=40)
    assert sum(int(b.mask.sum()) for b in few) <= 40
    with pytest.raises(UsageError, match="empty"):
        make_batches(encode, [], longest=64)


def test_text_of_unknown_tokens_is_refused() -> None:
    assert check_known([batch([[1, 5, 7, 2]])], [1, 2, 3], 3) == 0
    with pytest.warns(HeadwayWarning, match="25 % of the calibration text's tokens are unknown"):
        assert check_known([batch([[1, 3, 7, 2], [1, 8, 9, 2]])], [1, 2], 3) == 0.25
    with pytest.raises(UsageError, match=r"67 % of the calibration text's tokens are unknown.*right language"):
        check_known([batch([[1, 3, 3, 4, 2]])], [1, 2, 3], 3)
    for nothing in ([1, 3, 3, 2], [1, 2]):
        with pytest.raises(UsageError, match="becomes a known token"):
            check_known([batch([nothing])], [1, 2], 3)
