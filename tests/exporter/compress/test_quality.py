"""Figures of quality, in points."""

from collections.abc import Mapping
from typing import Any

import numpy as np
import pytest
from sklearn.metrics import ndcg_score

from headway.calibration.corpus import TextFile
from headway.errors import SourceError, UsageError
from headway.exporter.compress.quality import Judge, Quality
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


def ranked(given: list[float], labels: list[float] | None = None) -> tuple[Quality, Any]:
    """Return quality and verdict of a reranker, whose source scores two queries of three texts each."""
    wanted = np.array([[3.0], [1], [-1], [0], [-1], [-2]], np.float32)

    def encode(texts, longest):
        return {"attention_mask": np.ones((len(texts), 4), np.int64)}

    texts = [(query, text) for query in "qr" for text in "abc"]
    gold = None if labels is None else np.array(labels, np.float32)[:, None]
    quality = Quality(texts, 8, gold, RERANKER, queries=np.array([0, 0, 0, 1, 1, 1]))
    quality.learn(lambda _: {"logits": wanted}, encode)
    return quality, quality.judge(lambda _: {"logits": np.array(given, np.float32)[:, None]}, encode)


def test_rerankers_are_judged_by_the_order_within_each_query() -> None:
    quality, same = ranked([3, 1, -1, 0, -1, -2])
    assert quality.metric == "agreement with the source" and same.points == pytest.approx(100)
    shifted = ranked([9, 7, 5, -6, -7, -8])[1]  # other scores for the queries, the same orders
    assert shifted.points == pytest.approx(100) and shifted.measure == "nDCG@10 of the source's order"
    assert shifted.meaning == "For 0.0 % of the queries another text comes first than by the source."
    assert {c.name: c.value for c in shifted.companions}["concordance of scores"] < 90
    other = ranked([3, 1, -1, -2, -1, 0])[1]
    gains = [(s - min(t)) / (max(t) - min(t)) for t in [1 / (1 + np.exp(-np.array([0.0, -1, -2])))] for s in t]
    reverse = ndcg_score([gains], [[0, 1, 2]], k=10)
    assert other.points == pytest.approx(100 * (1 + reverse) / 2) and other.meaning.startswith("For 50.0 % of")


def test_rerankers_with_relevance_are_judged_by_it() -> None:
    relevance = [2, 0, 1, 0, 0, 1]
    quality, verdict = ranked([1, 2, 3, 3, 2, 1], relevance)
    assert quality.metric == verdict.measure == "nDCG@10"
    truth = [ndcg_score([relevance[i : i + 3]], [scores]) for i, scores in ((0, [1, 2, 3]), (3, [3, 2, 1]))]
    assert verdict.points == pytest.approx(100 * np.mean(truth))
    source = [ndcg_score([relevance[i : i + 3]], [[3, 2, 1]]) for i in (0, 3)]
    assert quality.source == pytest.approx(100 * np.mean(source))


def test_concordance_by_hand() -> None:
    a, b = np.array([1.0, 2.0, 3.0]), np.array([2.0, 2.0, 5.0])
    wanted = 2 * np.cov(a, b, bias=True)[0, 1] / (a.var() + b.var() + 1.0)
    assert measured([[x] for x in a], [[x] for x in b], REGRESSION)[1] == pytest.approx(100 * wanted)


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


MASK = np.array([[1, 1, 1], [1, 1, 0]] * 6)
TEXTS = [str(i) for i in range(len(MASK))]


def encoded(texts: list[str], longest: int) -> dict[str, np.ndarray]:
    rows = MASK[[int(text) for text in texts]]
    return {"attention_mask": rows, "input_ids": np.arange(rows.size).reshape(rows.shape) + 7}


def random(*shape: int, seed: int = 0) -> np.ndarray:
    return np.random.default_rng(seed).normal(size=shape).astype(np.float32)


def points(wanted: Mapping[str, np.ndarray], given: Mapping[str, np.ndarray], task: str | None = None) -> float:
    quality = Quality(TEXTS, 8, task=task)
    quality.learn(lambda _: wanted, encoded)
    return quality.measure(lambda _: given, encoded)


TOKENS, CLASSES, POOLED = random(12, 3, 4), random(12, 5), random(12, 4)


@pytest.mark.parametrize(
    ("task", "read", "more"),
    [
        ("feature-extraction", {"last_hidden_state": TOKENS}, {"pooler_output": POOLED}),
        ("feature-extraction", {"sentence_embedding": POOLED}, {"last_hidden_state": TOKENS}),
        ("text-classification", {"logits": CLASSES}, {"last_hidden_state": TOKENS}),
        ("token-classification", {"logits": TOKENS}, {"hidden_states.0": random(12, 3, 9)}),
        ("question-answering", {"start_logits": TOKENS[..., 0], "end_logits": TOKENS[..., 1]}, {"logits": TOKENS}),
    ],
)
def test_outputs_that_no_task_reads_count_for_nothing(task: str, read: dict, more: dict) -> None:
    wanted = more | read
    other = {name: random(*value.shape, seed=1) for name, value in wanted.items()}
    assert points(wanted, other | read, task) == pytest.approx(100)
    assert points(wanted, wanted | {name: other[name] for name in read}, task) < 60


def test_an_output_that_is_but_an_input_counts_for_nothing() -> None:
    """Whatever is made of the model, it stays the same, and would lift the mean of all outputs."""
    through = {"mask": MASK, "ids": encoded(TEXTS, 8)["input_ids"]}
    other = {"embedding": random(12, 4, seed=1)}
    assert points({"embedding": POOLED} | through, other | through) == pytest.approx(
        points({"embedding": POOLED}, other)
    )
    with pytest.raises(SourceError, match="lacks an output that is no input"):
        points(through, through)


def test_labels_need_logits() -> None:
    quality = Quality(TEXTS, 8, np.zeros(12, np.int64))
    with pytest.raises(SourceError, match="lacks the output `logits`"):
        quality.learn(lambda _: {"pooler_output": POOLED}, encoded)


def test_one_answer_for_all_texts_is_no_agreement() -> None:
    same = np.tile(POOLED[:1], (12, 1))
    assert points({"sentence_embedding": POOLED}, {"sentence_embedding": same}) == pytest.approx(0, abs=1)
    assert points({"logits": CLASSES[:, :1]}, {"logits": np.ones((12, 1))}) == 0


@pytest.mark.parametrize("shape", [(12, 3), (12, 3, 3)], ids=["texts", "tokens"])
def test_a_model_that_ignores_its_text_does_not_agree_with_a_source_of_one_class(shape: tuple[int, ...]) -> None:
    wanted = np.random.default_rng(0).normal(size=shape)
    wanted[..., 1] += 20
    constant = np.broadcast_to([0.0, 1.0, 0.0], shape)
    near = wanted + 0.01 * np.random.default_rng(1).normal(size=shape)
    assert points({"logits": wanted}, {"logits": constant}) == pytest.approx(0, abs=1)
    assert points({"logits": wanted}, {"logits": wanted + np.arange(12).reshape(12, *[1] * (len(shape) - 1))}) > 99.9
    assert 99 < points({"logits": wanted}, {"logits": near}) < 100


def test_a_source_of_one_class_is_named_though_there_are_labels() -> None:
    logits = np.abs(CLASSES) + np.array([9, 0, 0, 0, 0])
    quality = Quality(TEXTS, 8, np.arange(12) % 2, Scoring("single-label", "softmax"))
    quality.learn(lambda _: {"logits": logits}, encoded)
    found = quality.judge(lambda _: {"logits": logits}, encoded)
    assert found.points == 50 and "gives all texts the same class" in found.meaning


def test_a_source_that_answers_every_text_alike_judges_nothing() -> None:
    for value in (np.ones((12, 3)), np.tile(POOLED[:1], (12, 1))):
        quality = Quality(TEXTS, 8, name="lines.txt")
        with pytest.raises(UsageError, match=r"lines\.txt: the source gives the same answer to all 12 held-out texts"):
            quality.learn(lambda _, value=value: {"logits": value}, encoded)


def companions(wanted: Mapping[str, np.ndarray], given: Mapping[str, np.ndarray]) -> dict[str, float]:
    quality = Quality(TEXTS, 8)
    quality.learn(lambda _: wanted, encoded)
    return {c.name: c.value for c in quality.judge(lambda _: given, encoded).companions}


def test_figures_beside_accuracy_compare_with_the_source() -> None:
    logits, other = CLASSES, CLASSES[::-1]
    labels = other.argmax(axis=1)
    quality = Quality(TEXTS, 8, labels, Scoring("single-label", "softmax"))
    quality.learn(lambda _: {"logits": logits}, encoded)
    found = quality.judge(lambda _: {"logits": other}, encoded)
    assert found.points == 100 and found.lost == pytest.approx(100 * np.mean(logits.argmax(axis=1) == labels) - 100)
    same = 100 * float(np.mean(logits.argmax(axis=1) == other.argmax(axis=1)))
    assert (found.measure, found.companions[0].name) == ("accuracy", "texts of the source's class")
    assert found.companions[0].value == pytest.approx(same)
    assert f"{100 - same:.2f} % of the texts get another class" in found.meaning


def test_both_ends_of_an_answer_are_compared_together() -> None:
    wanted = {"start_logits": TOKENS[..., 0], "end_logits": TOKENS[..., 1]}
    moved = {"start_logits": TOKENS[..., 0].copy(), "end_logits": TOKENS[..., 1].copy()}
    moved["start_logits"][:3] *= -1
    moved["end_logits"][2:6] *= -1
    assert companions(wanted, wanted) == {"equal start and end": 100}
    assert companions(wanted, moved) == {"equal start and end": pytest.approx(50)}
    assert points(wanted, moved) == pytest.approx(100 - 100 * (3 + 4) / 24)


def test_every_file_is_judged_by_itself_and_the_worst_counts() -> None:
    files = [TextFile("a.txt", TEXTS[:4]), TextFile("b.txt", TEXTS[4:])]

    def model(wrong: int):
        answers = CLASSES.copy()
        answers[-wrong:] = -answers[-wrong:]
        return lambda feeds: {"logits": answers[(feeds["input_ids"][:, 0] - 7) // 3]}

    def encode(texts: list[str], longest: int) -> dict[str, np.ndarray]:
        return {"attention_mask": np.ones((len(texts), 1)), "input_ids": 3 * np.array([[int(t)] for t in texts]) + 7}

    judge = Judge.of(
        files, 8, None, None, lambda feeds: {"logits": CLASSES[(feeds["input_ids"][:, 0] - 7) // 3]}, encode
    )
    assert judge.metric == "agreement with the source" and judge.texts == TEXTS
    judged = judge.judge(model(4), encode)
    assert judged.by_file == {"a.txt": 100, "b.txt": 50} and judged.worst.data == "b.txt"
    assert (judged.points, judged.lost) == (50, 50)
