"""Read labeled data as a model's task asks for it, and score a model and its source on the same texts."""

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np

from ...calibration.corpus import read_file
from ...calibration.text_pairs import FIRST, QUERY, RELEVANCE, SCORE, SECOND, TEXTS, as_list, numbers_of
from ...calibration.text_tables import read_columns
from ...errors import UsageError
from ...tasks import THRESHOLD, Scoring, best_answer, best_of
from ...text import Text, TextEncoder
from ..compress.figures import Statistic, combined, correlation, f1, mean
from ..compress.rankings import K, ndcg
from ..compress.source_texts import reading_for
from .metrics import (
    Metric,
    accuracy,
    binary_f1,
    entities_of,
    entity_f1,
    exact_match,
    macro_f1,
    recall,
    reciprocal_rank,
    span_f1,
    spearman,
)

_TOKENS = ("tokens", "words")
_TAGS = ("tags", "ner_tags", "labels", "label")
_LONGEST_ANSWER = 30
_BATCH = 32

Run = Callable[[Mapping[str, np.ndarray]], Mapping[str, np.ndarray]]


@dataclass(frozen=True)
class Model:
    """A model that answers: its graph, its tokenizer, and the names of its labels by number."""

    run: Run
    encoder: TextEncoder
    labels: Mapping[str, str]

    def rows(self, texts: Sequence[Text], name: str) -> list[np.ndarray]:
        """Return an output of each text, without padding where it has a row for each token."""
        return self._of(self.encoder.encode(texts), (name,))[name]

    def _of(self, encodings: Sequence[Any], names: Sequence[str]) -> dict[str, list[np.ndarray]]:
        found: dict[str, list[np.ndarray]] = {name: [] for name in names}
        for first in range(0, len(encodings), _BATCH):
            part = encodings[first : first + _BATCH]
            feeds = self.encoder.batch(part)
            outputs = self.run(feeds)
            missing = next((name for name in names if name not in outputs), None)
            if missing is not None:
                raise UsageError(f"the model has no output {missing}, which quality on these labels is read from")
            for name in names:
                array = np.asarray(outputs[name])
                tokens = array.shape[:2] == feeds["input_ids"].shape and name != "sentence_embedding"
                found[name] += [row[: len(e.ids)] if tokens else row for row, e in zip(array, part, strict=True)]
        return found

    def answers(self, pairs: Sequence[tuple[str, str]]) -> list[str]:
        """Return the best span of each context for its question, all windows read."""
        windows = self.encoder.windows(pairs)
        outputs = self._of([w for group in windows for w in group], ("start_logits", "end_logits"))
        rows = iter(zip(outputs["start_logits"], outputs["end_logits"], strict=True))
        return [
            best_of([best_answer(context, w, *next(rows), _LONGEST_ANSWER) for w in group])["answer"]
            for (_, context), group in zip(pairs, windows, strict=True)
        ]

    def tags(self, sentences: Sequence[Sequence[str]]) -> list[list[str]]:
        """Return the label of each word: that of its first token. Words that are cut off have the label `O`."""
        texts = [" ".join(words) for words in sentences]
        encodings = self.encoder.encode(texts)
        logits = self._of(encodings, ("logits",))["logits"]
        return [self._tags(*item) for item in zip(sentences, encodings, logits, strict=True)]

    def _tags(self, words: Sequence[str], encoding: Any, logits: np.ndarray) -> list[str]:
        starts = np.cumsum([0, *(len(word) + 1 for word in words)])[:-1]
        covering: dict[int, int] = {}
        for token, (begin, end) in enumerate(encoding.offsets):
            for place in range(begin, end):
                covering.setdefault(place, token)
        chosen = logits.argmax(axis=-1)
        return [self._label(int(chosen[covering[s]])) if s in covering else "O" for s in starts]

    def _label(self, number: int) -> str:
        return self.labels[str(number)]


@dataclass(frozen=True)
class Labeled:
    """Labeled texts of a file. `score(own, source)` gives the metrics of a model and of its source; the first is the gate's.

    `texts` are what the model reads, a text or a pair each.
    """

    name: str
    texts: Sequence[Text]
    score: Callable[[Model, Model], list[Metric]]


def read_gold(path: Path, task: str, labels: Mapping[str, str], scoring: Scoring | None, column: str | None) -> Labeled:
    """Return the labeled texts of a file for a task. UsageError says what is missing, and which columns the task needs."""

    def embedded() -> Labeled:
        return _ranked(path) if _has(path, query=QUERY, texts=TEXTS) else _rated(path)

    readers: dict[str, Callable[[], Labeled]] = {
        "text-classification": lambda: _classified(path, labels, scoring, column),
        "token-classification": lambda: _tagged(path, labels),
        "question-answering": lambda: _answered(path),
        "sentence-embedding": embedded,
        "feature-extraction": embedded,
    }
    if task not in readers:
        raise UsageError(f"{path}: no quality on labels is defined for {task}: leave max_quality_drop out")
    return readers[task]()


def _has(path: Path, **wanted: Sequence[str]) -> bool:
    try:
        read_columns(path, wanted)
    except UsageError:
        return False
    return True


def _columns(path: Path, needed: str, **wanted: Sequence[str]) -> dict[str, list[Any]]:
    try:
        return read_columns(path, wanted)
    except UsageError as error:
        raise UsageError(f"{error}; quality on labels needs {needed}") from error


def _classified(path: Path, labels: Mapping[str, str], scoring: Scoring | None, column: str | None) -> Labeled:
    classes = {name: int(number) for number, name in labels.items()}
    reading = reading_for("text-classification", scoring, len(classes))
    file = read_file(path.name, path, classes, column, scoring, reading)
    texts, gold = file.texts, file.labels
    if gold is None:
        raise UsageError(
            f"{path}: has no labels, and quality is gated: give a table with a column `label`, or leave max_quality_drop out"
        )
    if file.queries is not None and reading == "rankings" and len(np.unique(file.queries)) < len(texts):
        return _ordered(path.name, texts, gold[:, 0], file.queries)

    def score(own: Model, source: Model) -> list[Metric]:
        given = [np.stack(model.rows(texts, "logits")) for model in (own, source)]
        if scoring is None or scoring.kind == "single-label":
            chosen = [logits.argmax(axis=-1) for logits in given]
            metrics = {"accuracy": accuracy, "macro F1": macro_f1} | (
                {"binary F1": binary_f1} if len(classes) == 2 else {}
            )
            positive = np.any([values == 1 for values in (*chosen, gold)], axis=0)
            counts = {"binary F1": int(positive.sum())}
            return [_both(n, metric, chosen, gold, counts.get(n)) for n, metric in metrics.items()]
        scores = [scoring.scores(logits) for logits in given]
        wanted = gold.reshape(scores[0].shape)
        if scoring.kind == "multi-label":
            decisions = [s >= THRESHOLD for s in (*scores, wanted)]
            deciding = int(np.any(decisions, axis=(0, 2)).sum())
            return [_both("micro F1", f1, decisions[:2], decisions[2], deciding)]
        return _correlations(scores, wanted)

    return Labeled(path.name, texts, score)


def _both(
    name: str, metric: Callable[[Any, Any], Statistic], given: Sequence[Any], wanted: Any, deciding: int | None = None
) -> Metric:
    """Return a metric of the answers of both models; `deciding` is how many texts it is made of, where not all count."""
    return Metric(name, metric(given[0], wanted), metric(given[1], wanted), len(wanted), deciding)


def _correlations(given: Sequence[np.ndarray], wanted: np.ndarray) -> list[Metric]:
    """Return how values `[texts]` or `[texts, columns]` rank with those that were wanted: the mean of all columns."""

    def of(one: Callable[[np.ndarray, np.ndarray], Statistic]) -> Callable[[Any, Any], Statistic]:
        return lambda a, b: combined([one(x, y) for x, y in zip(_by_column(a), _by_column(b), strict=True)])

    return [_both("Spearman", of(spearman), given, wanted), _both("Pearson", of(correlation), given, wanted)]


def _by_column(values: np.ndarray) -> np.ndarray:
    return values.reshape(len(values), -1).T


def _tagged(path: Path, labels: Mapping[str, str]) -> Labeled:
    needed = "columns `tokens` (a list of words) and `tags` (a list of labels)"
    read = _columns(path, needed, tokens=_TOKENS, tags=_TAGS)
    words = [[str(word) for word in _list(path, row, value, needed)] for row, value in enumerate(read["tokens"], 1)]
    gold = [
        [_tag(path, tag, labels) for tag in _list(path, i, value, needed)] for i, value in enumerate(read["tags"], 1)
    ]
    uneven = next((i for i, (w, t) in enumerate(zip(words, gold, strict=True), 1) if len(w) != len(t)), None)
    if uneven is not None:
        raise UsageError(f"{path}: row {uneven} has {len(words[uneven - 1])} words and {len(gold[uneven - 1])} tags")

    def score(own: Model, source: Model) -> list[Metric]:
        given = [model.tags(words) for model in (own, source)]
        deciding = sum(any(entities_of(tags) for tags in row) for row in zip(*given, gold, strict=True))
        return [_both("entity F1", entity_f1, given, gold, deciding), _both("equal tags", _equal_tags, given, gold)]

    return Labeled(path.name, [" ".join(w) for w in words], score)


def _equal_tags(given: Sequence[Sequence[str]], wanted: Sequence[Sequence[str]]) -> Statistic:
    equal = [sum(a == b for a, b in zip(g, w, strict=True)) for g, w in zip(given, wanted, strict=True)]
    return mean(np.array(equal, np.float64), np.array([len(w) for w in wanted], np.float64))


def _tag(path: Path, tag: object, labels: Mapping[str, str]) -> str:
    """Return a tag by its name: the model's own, or one of another model, which is refused."""
    name = labels.get(str(tag), str(tag))
    if labels and name not in labels.values():
        raise UsageError(
            f"{path}: label {name!r} is none of the model's {', '.join(labels.values())}: these are labels of another task"
        )
    return name


def _list(path: Path, row: int, value: object, needed: str) -> list[Any]:
    return as_list(path, row, value, f"what quality on labels needs: {needed}")


def _answered(path: Path) -> Labeled:
    needed = "columns `question`, `context` and `answers` (a list, or an object with a list `text`, as in SQuAD)"
    read = _columns(path, needed, question=("question",), context=("context",), answers=("answers", "answer"))
    pairs = [(str(q).strip(), str(c).strip()) for q, c in zip(read["question"], read["context"], strict=True)]
    gold = []
    for row, value in enumerate(read["answers"], 1):
        value = value.get("text") if isinstance(value, dict) else value
        gold.append([value] if isinstance(value, str) else [str(x) for x in _list(path, row, value, needed)])

    def score(own: Model, source: Model) -> list[Metric]:
        given = [model.answers(pairs) for model in (own, source)]
        return [
            _both("span F1", lambda x, y: mean(span_f1(x, y)), given, gold),
            _both("exact match", lambda x, y: mean(exact_match(x, y)), given, gold),
        ]

    return Labeled(path.name, pairs, score)


def _ordered(name: str, pairs: Sequence[Text], gold: np.ndarray, queries: np.ndarray) -> Labeled:
    """Return pairs of queries with texts, which a reranker orders; `gold` and `queries` are `[pairs]`."""
    rows = [np.flatnonzero(queries == number) for number in np.unique(queries)]

    def score(own: Model, source: Model) -> list[Metric]:
        values = [np.stack(model.rows(pairs, "logits"))[:, 0].astype(np.float64) for model in (own, source)]
        return _rankings([[v[own_rows] for own_rows in rows] for v in values], [gold[own_rows] for own_rows in rows])

    return Labeled(name, pairs, score)


def _rankings(given: Sequence[Sequence[np.ndarray]], gold: Sequence[np.ndarray]) -> list[Metric]:
    """Return figures of the orders of each query's texts, by the scores of both models."""
    return [
        _both(f"nDCG@{K}", _mean_of(ndcg), given, gold),
        _both("MRR", _mean_of(reciprocal_rank), given, gold),
        _both(f"recall@{K}", _mean_of(recall), given, gold),
    ]


def _rated(path: Path) -> Labeled:
    needed = "columns `sentence1`, `sentence2` and `score`, or `query`, `texts` and `relevance`"
    read = _columns(path, needed, sentence1=FIRST, sentence2=SECOND, score=SCORE)
    pairs = [(str(a).strip(), str(b).strip()) for a, b in zip(read["sentence1"], read["sentence2"], strict=True)]
    gold = numbers_of(path, read["score"])

    def score(own: Model, source: Model) -> list[Metric]:
        return _correlations([_similar(model, pairs) for model in (own, source)], gold)

    return Labeled(path.name, [text for pair in pairs for text in pair], score)


def _ranked(path: Path) -> Labeled:
    needed = "columns `query`, `texts` (a list) and `relevance` (a number for each text)"
    read = _columns(path, needed, query=QUERY, texts=TEXTS, relevance=RELEVANCE)
    texts = [_list(path, row, value, needed) for row, value in enumerate(read["texts"], 1)]
    gold = [numbers_of(path, _list(path, row, value, needed)) for row, value in enumerate(read["relevance"], 1)]
    uneven = next((i for i, (t, g) in enumerate(zip(texts, gold, strict=True), 1) if len(t) != len(g)), None)
    if uneven is not None:
        raise UsageError(f"{path}: row {uneven} has {len(texts[uneven - 1])} texts and {len(gold[uneven - 1])} numbers")
    pairs = [
        (str(query).strip(), str(text).strip())
        for query, group in zip(read["query"], texts, strict=True)
        for text in group
    ]
    ends = np.cumsum([len(group) for group in texts])[:-1]

    def score(own: Model, source: Model) -> list[Metric]:
        return _rankings([np.split(_similar(model, pairs), ends) for model in (own, source)], gold)

    return Labeled(path.name, [text for pair in pairs for text in pair], score)


def _mean_of(one: Callable[[np.ndarray, np.ndarray], float]) -> Callable[[Any, Any], Statistic]:
    """Return the mean over queries of a figure of one query, of its relevance and its scores."""
    return lambda given, wanted: mean(np.array([one(w, g) for g, w in zip(given, wanted, strict=True)]))


def _similar(model: Model, pairs: Sequence[tuple[str, str]]) -> np.ndarray:
    """Return the cosine of the embeddings of two texts, `[pairs]`."""
    texts = list(dict.fromkeys(text for pair in pairs for text in pair))
    vectors = np.stack(model.rows(texts, "sentence_embedding")).astype(np.float64)
    vectors /= np.maximum(np.linalg.norm(vectors, axis=1, keepdims=True), 1e-12)
    place = {text: i for i, text in enumerate(texts)}
    return np.asarray([vectors[place[a]] @ vectors[place[b]] for a, b in pairs])
