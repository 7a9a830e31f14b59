"""Figures of quality, in points."""

import numpy as np
import pytest

from headway.exporter.compress.quality import Quality


@pytest.mark.parametrize("count", [1, 2, 12])
def test_other_sentence_vectors_lose_points_however_few_the_texts(count: int) -> None:
    vectors = np.random.default_rng(0).normal(size=(count, 8))

    def encode(texts, longest):
        return {"attention_mask": np.ones((len(texts), 4), np.int64)}

    quality = Quality([str(i) for i in range(count)], 8)
    quality.learn(lambda _: {"sentence_embedding": vectors}, encode)
    assert quality.measure(lambda _: {"sentence_embedding": vectors}, encode) == pytest.approx(100)
    others = np.random.default_rng(1).normal(size=(count, 8))
    assert quality.measure(lambda _: {"sentence_embedding": others}, encode) < 99
