"""Models that compression is measured on, with what judges them: people's labels, and the source's own answers.

Each figure is a statistic of how often a text counts, so that it has an interval, and a difference to the source's is one of the
same texts.
"""

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np

from headway.calibration.batches import Batch
from headway.exporter.compress.figures import (
    Statistic,
    combined,
    correlation,
    interval_of,
    mean,
    pair_correlation,
    value_of,
)
from headway.exporter.validate.metrics import entity_f1
from headway.runners.base import Runner

from .data import movies, named_entities, news, rated_pairs
from .finetune import entity_tagger, movie_classifier
from .models import minilm, mpnet

_COMPARED = 512
"""Texts whose similarities are compared with the source's."""

Answers = list[np.ndarray]
"""What a model makes of each text: logits, logits of its tokens, or an embedding."""


@dataclass(frozen=True)
class Figure:
    """A figure of so many texts, documents or pairs, in points from 0 to 100."""

    statistic: Statistic
    count: int

    @property
    def points(self) -> float:
        """The figure itself."""
        return 100 * value_of(self.statistic, self.count)

    @property
    def interval(self) -> list[float]:
        """Its 95 % interval."""
        return [100 * x for x in interval_of(self.statistic, self.count)]

    def lost(self, source: "Figure") -> list[float]:
        """Return the 95 % interval of what is lost against the source's, on the same texts."""
        return Figure(combined([source.statistic, self.statistic], [1.0, -1.0]), self.count).interval


@dataclass(frozen=True)
class Task:
    """A model, text to learn from and to choose by (`train`), and text that judges (`texts`).

    `figures` takes a model's answers and the source's, and returns quality by people and agreement with the source.
    """

    title: str
    metric: str
    directory: Path
    train: list[str]
    texts: list[str]
    output: str
    figures: Callable[[Answers, Answers], tuple[Figure, Figure]]

    def answers(self, runner: Runner, batches: Sequence[Batch]) -> Answers:
        """Return a model's answers to the texts, in their order; those of tokens without padding."""
        rows: dict[int, np.ndarray] = {}
        for batch in batches:
            results = runner.run(batch.feeds)[self.output]
            for row, result, real in zip(batch.rows, results, batch.mask, strict=True):
                rows[int(row)] = result[real] if result.ndim == 2 else result
        return [rows[i] for i in range(len(self.texts))]


def task(name: str) -> Task:
    """Return a task: movies, news, sts, sts-mpnet or wnut17."""
    return {
        "movies": _movies,
        "news": _news,
        "sts": _rated,
        "sts-mpnet": lambda: _rated(large=True),
        "wnut17": _entities,
    }[name]()


def _movies() -> Task:
    data = movies()
    labels = np.concatenate([data["dev"].labels, data["test"].labels])

    def figures(own: Answers, theirs: Answers) -> tuple[Figure, Figure]:
        found, wanted = (np.array([a.argmax() for a in answers]) for answers in (own, theirs))
        return tuple(Figure(mean((found == x).astype(float)), len(labels)) for x in (labels, wanted))  # type: ignore[return-value]

    texts = data["dev"].texts + data["test"].texts
    title = "MiniLM-L6, movies"
    return Task(title, "accuracy, %", movie_classifier(), data["train"].texts, texts, "logits", figures)


def _news() -> Task:
    rated = news()

    def figures(own: Answers, theirs: Answers) -> tuple[Figure, Figure]:
        found, wanted = (np.stack(answers) @ np.stack(answers).T for answers in (own, theirs))
        similarity = (pair_correlation(found, x) for x in (rated.similarity, wanted))
        return tuple(Figure(s, len(found)) for s in similarity)  # type: ignore[return-value]

    title = "MiniLM-L6, news"
    return Task(title, "Pearson × 100", minilm(), rated.background, rated.texts, "sentence_embedding", figures)


def _rated(*, large: bool = False) -> Task:
    rated = rated_pairs()

    def figures(own: Answers, theirs: Answers) -> tuple[Figure, Figure]:
        found = np.stack(own)
        of_pairs = (found[rated.pairs[:, 0]] * found[rated.pairs[:, 1]]).sum(-1)
        some, wanted = (np.stack(a[:: max(1, len(a) // _COMPARED)]) for a in (own, theirs))
        return (
            Figure(correlation(of_pairs, rated.similarity, np.arange(len(of_pairs)), len(of_pairs)), len(of_pairs)),
            Figure(pair_correlation(some @ some.T, wanted @ wanted.T), len(some)),
        )

    title = f"{'all-mpnet-base-v2' if large else 'MiniLM-L6'}, rated pairs"
    directory = (mpnet if large else minilm)()
    return Task(title, "Pearson × 100", directory, rated.background, rated.texts, "sentence_embedding", figures)


def _entities() -> Task:
    data, directory = named_entities(), entity_tagger()
    judged = data["test"]
    from tokenizers import Tokenizer

    tokenizer = Tokenizer.from_file(str(directory / "tokenizer.json"))
    tokenizer.no_padding()
    first = [judged.first_tokens(i, tokenizer) for i in range(len(judged.texts))]
    wanted = [[judged.names[label] for label in labels] for labels in judged.labels]

    def figures(own: Answers, theirs: Answers) -> tuple[Figure, Figure]:
        labels, source = ([_words(a, t) for a, t in zip(answers, first, strict=True)] for answers in (own, theirs))
        given = [[judged.names[i] for i in row] for row in labels]
        equal = np.array([float(np.sum(a == b)) for a, b in zip(labels, source, strict=True)])
        words = np.array([float(len(row)) for row in labels])
        return Figure(entity_f1(given, wanted), len(given)), Figure(mean(equal, words), len(words))

    title = "MiniLM-L6, named entities"
    return Task(title, "entity F1, %", directory, data["train"].texts, judged.texts, "logits", figures)


def _words(logits: np.ndarray, first: np.ndarray) -> np.ndarray:
    """Return the label of each word, that of its first token; 0, which is no entity, where the text was cut."""
    found = logits.argmax(-1)
    inside = (first >= 0) & (first < len(found))
    return np.where(inside, found[np.where(inside, first, 0)], 0)
