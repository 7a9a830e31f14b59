"""Non-inferiority: a statement with its confidence, and none from too few texts."""

import numpy as np
import pytest

from headway.exporter.validate.metrics import Metric, accuracy, spearman
from headway.exporter.validate.non_inferiority import drop_of, texts_needed


def metric(count: int, worse: int, better: int = 0) -> Metric:
    wanted = np.zeros(count, np.int64)
    own, source = wanted.copy(), wanted.copy()
    own[:worse], source[worse : worse + better] = 1, 1
    return Metric("accuracy", accuracy(own, wanted), accuracy(source, wanted), count)


def test_a_loss_within_the_limit_is_stated_with_confidence() -> None:
    drop = drop_of(metric(2000, worse=20, better=15), 1.0)
    assert drop.drop.value == pytest.approx(0.25) and drop.drop.low < 0 < drop.drop.high < 1
    assert drop.confidence > 0.975 and "no worse than 1 point of accuracy, with" in drop.statement
    assert drop.to_json()["drop"]["count"] == 2000


def test_equal_answers_to_few_texts_prove_little() -> None:
    drop = drop_of(metric(100, worse=0), 1.0)
    assert drop.drop.value == 0 and drop.drop.high == pytest.approx(3.62, abs=0.01)  # 1 - 0.025^(1 / 100)
    assert drop.confidence == pytest.approx(1 - 0.99**100)
    assert drop_of(metric(texts_needed(1.0), worse=0), 1.0).drop.high <= 1.0
    assert texts_needed(1.0) == 368 and texts_needed(0.0) == 0


def test_texts_that_do_not_decide_a_metric_prove_nothing() -> None:
    """Of 1,000 texts five have an entity: equal answers say as much as five texts do."""
    equal = metric(1000, worse=0)
    drop = drop_of(Metric("entity F1", equal.own, equal.source, 1000, deciding=5), 1.0)
    assert drop.drop.high == pytest.approx(100 * (1 - 0.025 ** (1 / 5))) and drop.drop.count == 5
    assert drop.confidence == pytest.approx(1 - 0.99**5)


def test_a_real_loss_is_above_the_limit_with_its_whole_interval() -> None:
    drop = drop_of(metric(2000, worse=200), 1.0)
    assert drop.drop.low > 8 and drop.confidence == 0


def test_the_interval_of_a_difference_is_that_of_pairs() -> None:
    rng = np.random.default_rng(0)
    gold = rng.normal(size=300)
    source = gold + rng.normal(size=300)
    own = source + rng.normal(size=300) * 0.01  # almost the same answers: their common error cancels
    drop = drop_of(Metric("Spearman", spearman(own, gold), spearman(source, gold), 300), 1.0)
    assert drop.drop.high - drop.drop.low < 1.0
