"""Figures of quality, in points."""

import numpy as np
import pytest

from headway.exporter.compress.quality import Quality
from headway.tasks import Scoring


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


def measured(wanted: list, given: list, scoring: Scoring, labels: list | None = None) -> tuple[Quality, float]:
    """Return the quality of logits `given` by a model whose source gives `wanted`."""

    def encode(texts, longest):
        return {"attention_mask": np.ones((len(texts), 4), np.int64)}

    quality = Quality([str(i) for i in range(len(wanted))], 8, None if labels is None else np.array(labels), scoring)
    quality.learn(lambda _: {"logits": np.array(wanted, np.float32)}, encode)
    return quality, quality.measure(lambda _: {"logits": np.array(given, np.float32)}, encode)


SEVERAL, RERANKER, REGRESSION = (
    Scoring("multi-label", "sigmoid"),
    Scoring("value", "sigmoid"),
    Scoring("value", "identity"),
)


def test_opposite_scores_of_one_label_have_nothing_in_common() -> None:
    wanted = [[4.0], [-3.0], [1.0], [-6.0]]
    for scoring in (RERANKER, REGRESSION):
        assert measured(wanted, wanted, scoring)[1] == pytest.approx(100)
        assert measured(wanted, [[-x] for (x,) in wanted], scoring)[1] < 0
        shifted = measured(wanted, [[x + 20] for (x,) in wanted], scoring)[1]
        assert shifted < 20  # perfectly correlated, and of no use


def test_concordance_by_hand() -> None:
    a, b = np.array([1.0, 2.0, 3.0]), np.array([2.0, 2.0, 5.0])
    wanted = 2 * np.cov(a, b, bias=True)[0, 1] / (a.var() + b.var() + 1.0)
    assert measured([[x] for x in a], [[x] for x in b], REGRESSION)[1] == pytest.approx(100 * wanted)
    assert measured([[2.0], [2.0]], [[2.0], [2.0]], REGRESSION)[1] == 100
    assert measured([[2.0], [2.0]], [[4.0], [4.0]], REGRESSION)[1] == 0


def test_several_labels_are_judged_by_the_decisions_of_the_source() -> None:
    wanted = [[3.0, -2.0, -2.0], [-1.0, -1.0, -4.0], [2.0, 2.0, -9.0]]
    nothing = [[-1.0] * 3] * 3  # the class of the largest logit would be right once, and most decisions are
    assert measured(wanted, wanted, SEVERAL)[1] == 100
    assert measured(wanted, nothing, SEVERAL)[1] == 0
    half = [[3.0, -2.0, -2.0], [-1.0, 1.0, -4.0], [2.0, -2.0, -9.0]]  # two right, one missed, one too many
    assert measured(wanted, half, SEVERAL)[1] == pytest.approx(100 * 4 / 6)
    never = [[-3.0, -2.0], [-1.0, -4.0]]
    assert measured(never, never, SEVERAL)[1] == 100
    assert (
        measured(never, [[-1.0, -4.0], [-3.0, -2.0]], SEVERAL)[1] < 0
    )  # where the source decides nothing, its scores count


def test_labels_of_every_kind_have_their_metric() -> None:
    logits = [[2.0, -1.0], [-1.0, 3.0], [1.0, 1.0]]
    quality, points = measured(logits, logits, SEVERAL, [[1.0, 0.0], [0.0, 1.0], [1.0, 0.0]])
    assert (quality.metric, quality.source, points) == ("F1", pytest.approx(100 * 6 / 7), quality.source)
    column = [[2.0], [-1.0], [3.0], [-4.0]]
    quality, points = measured(column, column, RERANKER, [[1.0], [0.0], [0.0], [0.0]])
    assert (quality.metric, points) == ("accuracy", 75)
    quality, points = measured(column, column, REGRESSION, [[4.0], [1.0], [5.0], [-2.0]])
    assert (quality.metric, points) == ("correlation with the labels", pytest.approx(100))
    quality, points = measured(column, column, RERANKER, [[0.9], [0.4], [0.8], [0.1]])
    assert quality.metric == "correlation with the labels" and 90 < points < 100
    quality, points = measured(logits, logits, Scoring("single-label", "softmax"), [0, 1, 1])
    assert (quality.metric, points) == ("accuracy", pytest.approx(200 / 3))
