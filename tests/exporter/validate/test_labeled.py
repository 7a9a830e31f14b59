"""Labeled data by task: what is read, how models are scored on it, and what is refused."""

import json
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import numpy as np
import pytest

from headway.errors import UsageError
from headway.exporter.validate import labeled
from headway.exporter.validate.labeled import Model, read_gold
from headway.tasks import SINGLE_LABEL, Scoring

TAGS = {"0": "O", "1": "B-x", "2": "I-x"}
CLASSES = {"0": "bad", "1": "good"}


class Words:
    """An encoder with one token for each word; its id is the word's number in `known`."""

    def __init__(self, known: dict[str, int]):
        self.known = known

    def encode(self, texts: list[Any]) -> list[Any]:
        return [self._encoding(text) for text in texts]

    def windows(self, pairs: list[Any]) -> list[list[Any]]:
        return [[self._encoding(pair)] for pair in pairs]

    def _encoding(self, text: Any) -> Any:
        ids, offsets, parts = [], [], []
        for part, words in enumerate([text] if isinstance(text, str) else text):
            at = 0
            for word in words.split():
                ids.append(self.known.get(word, 0))
                offsets.append((at, at + len(word)))
                parts.append(part)
                at += len(word) + 1
        return SimpleNamespace(ids=ids, offsets=offsets, sequence_ids=parts)

    def batch(self, encodings: list[Any]) -> dict[str, np.ndarray]:
        width = max(len(e.ids) for e in encodings)
        return {"input_ids": np.array([e.ids + [0] * (width - len(e.ids)) for e in encodings])}


def model(known: dict[str, int], outputs: Any, labels: dict[str, str] | None = None) -> Model:
    return Model(lambda feeds: outputs(feeds["input_ids"]), Words(known), labels or {})  # type: ignore[arg-type]


def table(tmp_path: Path, rows: list[dict[str, Any]]) -> Path:
    path = tmp_path / "data.jsonl"
    path.write_text("\n".join(map(json.dumps, rows)))
    return path


def points(metrics: list[Any]) -> dict[str, tuple[float, float]]:
    return {m.name: (round(m.points, 6), round(m.source_points, 6)) for m in metrics}


def one_hot(size: int) -> Any:
    return lambda ids: {"logits": np.eye(size)[ids]}


def first_of(size: int) -> Any:
    return lambda ids: {"logits": np.eye(size)[ids[:, 0]]}


def test_classes(tmp_path: Path) -> None:
    path = table(
        tmp_path, [{"text": w, "label": label} for w, label in (("fine", "good"), ("poor", "bad"), ("dull", "bad"))]
    )
    gold = read_gold(path, "text-classification", CLASSES, SINGLE_LABEL, None)
    own, source = model({"fine": 1, "dull": 1}, first_of(2)), model({"fine": 1}, first_of(2))
    scored = points(gold.score(own, source))
    assert scored["accuracy"] == (round(200 / 3, 6), 100) and scored["binary F1"] == (round(200 / 3, 6), 100)
    assert list(gold.texts) == ["fine", "poor", "dull"]


def test_tags_of_words(tmp_path: Path) -> None:
    path = table(tmp_path, [{"tokens": ["New", "York", "sleeps"], "tags": ["B-x", "I-x", 0]}])
    gold = read_gold(path, "token-classification", TAGS, None, None)
    right, wrong = model({"New": 1, "York": 2}, one_hot(3), TAGS), model({"New": 1}, one_hot(3), TAGS)
    assert points(gold.score(wrong, right)) == {"entity F1": (0, 100), "equal tags": (round(200 / 3, 6), 100)}


def test_answers(tmp_path: Path) -> None:
    rows = [{"question": "who", "context": "it was Ada here", "answers": {"text": ["Ada"]}}]
    gold = read_gold(table(tmp_path, rows), "question-answering", {}, None, None)

    def spans(ids: np.ndarray) -> dict[str, np.ndarray]:
        return {name: (ids == 7).astype(float) for name in ("start_logits", "end_logits")}

    scored = points(gold.score(model({"was": 7}, spans), model({"Ada": 7}, spans)))
    assert scored == {"span F1": (0, 100), "exact match": (0, 100)}
    assert list(gold.texts) == [("who", "it was Ada here")]


def vectors(ids: np.ndarray) -> dict[str, np.ndarray]:
    return {"sentence_embedding": np.stack([np.cos(ids[:, 0] / 9), np.sin(ids[:, 0] / 9)], axis=1)}


def test_pairs_with_scores_and_queries_with_texts(tmp_path: Path) -> None:
    known = {word: i for i, word in enumerate("abcdefgh")}
    rows = [{"sentence1": "a", "sentence2": w, "score": -i} for w, i in known.items()]
    gold = read_gold(table(tmp_path, rows), "sentence-embedding", {}, None, None)
    turned = known | {"b": 7, "h": 1}
    scored = points(gold.score(model(turned, vectors), model(known, vectors)))
    assert scored["Spearman"][1] == 100 and scored["Spearman"][0] < 50
    rows = [{"query": "a", "texts": ["b", "h"], "relevance": [1, 0]}]  # type: ignore[list-item]
    gold = read_gold(table(tmp_path, rows), "feature-extraction", {}, None, None)
    scored = points(gold.score(model(turned, vectors), model(known, vectors)))
    assert scored["MRR"] == (50, 100) and scored["recall@10"] == (100, 100) and scored["nDCG@10"][1] == 100


def test_values_and_several_labels(tmp_path: Path) -> None:
    value = Scoring("value", "identity")
    rows: list[dict[str, Any]] = [{"text": w, "score": i} for i, w in enumerate("abc")]
    gold = read_gold(table(tmp_path, rows), "text-classification", {"0": "x"}, value, None)
    known = {w: i for i, w in enumerate("abc")}
    logits = model(known, lambda ids: {"logits": ids[:, :1].astype(float)})
    assert points(gold.score(logits, logits))["Pearson"] == (100, 100)
    rows = [{"sentence1": "a", "sentence2": w, "score": i} for i, w in enumerate("abc")]
    gold = read_gold(table(tmp_path, rows), "text-classification", {"0": "x"}, value, None)
    second = model(known, lambda ids: {"logits": ids[:, 1:].astype(float)})
    assert points(gold.score(second, second))["Spearman"] == (100, 100)
    rows = [{"text": "b", "labels": ["good"]}, {"text": "a", "labels": []}]
    gold = read_gold(table(tmp_path, rows), "text-classification", CLASSES, Scoring("multi-label", "sigmoid"), None)
    own = model(known, lambda ids: {"logits": np.stack([-9.0 + 0 * ids[:, 0], 18.0 * ids[:, 0] - 9], axis=1)})
    (micro,) = gold.score(own, own)
    assert points([micro]) == {"micro F1": (100, 100)}
    assert (micro.decided_by, micro.count) == (1, 2)  # a text without a label, given or wanted, decides nothing


@pytest.mark.parametrize(
    ("task", "rows", "message"),
    [
        ("text-classification", [{"text": "a"}], "has no labels, and quality is gated"),
        ("text-classification", [{"text": "a", "label": "funny"}], "label 'funny' is none of the model's classes"),
        ("token-classification", [{"text": "a", "label": 1}], "no column tokens.*needs columns `tokens`"),
        (
            "token-classification",
            [{"tokens": ["a"], "tags": ["B-y"]}],
            "'B-y' is none of the model's .*labels of another task",
        ),
        ("token-classification", [{"tokens": ["a", "b"], "tags": ["O"]}], "row 1 has 2 words and 1 tags"),
        ("token-classification", [{"tokens": 3, "tags": ["O"]}], "row 1 holds 3"),
        ("token-classification", [{"tokens": "['a', 'b']", "tags": ["O", "O"]}], "row 1 is no list"),
        ("token-classification", [{"tokens": "[1] is", "tags": ["O"]}], "row 1 is no list"),
        ("question-answering", [{"text": "a", "label": 1}], "no column question, context, answers"),
        ("sentence-embedding", [{"text": "a", "label": 1}], "no column sentence1, sentence2; found text, label"),
        ("sentence-embedding", [{"sentence1": "a", "sentence2": "b", "label": "good"}], "labels of another task"),
        ("sentence-embedding", [{"sentence1": "a", "sentence2": "b", "label": float("nan")}], "is not finite"),
        (
            "sentence-embedding",
            [{"query": "a", "texts": ["b"], "relevance": [1, 2]}],
            "row 1 has 1 texts and 2 numbers",
        ),
        ("fill-mask", [{"text": "a"}], "no quality on labels is defined for fill-mask"),
    ],
)
def test_labels_that_are_missing_or_of_another_task(
    tmp_path: Path, task: str, rows: list[dict[str, Any]], message: str
) -> None:
    labels = TAGS if task == "token-classification" else CLASSES
    with pytest.raises(UsageError, match=message):
        read_gold(table(tmp_path, rows), task, labels, SINGLE_LABEL, None)


def test_a_model_without_the_output_is_refused(tmp_path: Path) -> None:
    rows = [{"sentence1": "a", "sentence2": "b", "score": 1}]
    gold = read_gold(table(tmp_path, rows), "feature-extraction", {}, None, None)
    tokens = model({}, lambda ids: {"last_hidden_state": np.zeros((*ids.shape, 2))})
    with pytest.raises(UsageError, match="no output sentence_embedding"):
        gold.score(tokens, tokens)


def test_a_sentence_without_words_has_no_tags(tmp_path: Path) -> None:
    rows = [{"tokens": [], "tags": []}, {"tokens": ["a"], "tags": ["O"]}]
    gold = read_gold(table(tmp_path, rows), "token-classification", TAGS, SINGLE_LABEL, None)
    own = model({"a": 1}, lambda ids: {"logits": np.eye(len(TAGS))[np.zeros(ids.shape, np.int64)]}, TAGS)
    assert own.tags([[], ["a"]])[0] == []
    metrics = gold.score(own, own)
    assert metrics[0].name == "entity F1" and metrics[0].decided_by <= 1


def test_all_columns_of_a_model_with_several_values_count() -> None:
    wanted = np.array([[1.0, 3.0], [2.0, 1.0], [3.0, 2.0]])
    own = np.stack([wanted[:, 0], -wanted[:, 1]], axis=1)
    spearman, pearson = labeled._correlations([own, wanted], wanted)
    assert (spearman.points, spearman.source_points) == (0, 100)
    assert pearson.points == pytest.approx(0) and pearson.source_points == pytest.approx(100)
