"""Batches of text: samples with the lengths of all, and streams that keep their order."""

import numpy as np
from hypothesis import given, settings
from hypothesis import strategies as st

from headway.calibration.batches import draw, stream_batches


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
