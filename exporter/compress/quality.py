"""Measure how much of its source's quality a compressed model keeps, on text that compression did not see."""

from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field

import numpy as np

from ...calibration.batches import Encode
from ...calibration.corpus import TextFile
from ...errors import SourceError, UsageError
from ...tasks import THRESHOLD, Scoring, read_outputs
from ...text import Text
from .agreement import Agreement, Judged
from .answers import Rows, joined, passed_through, read_rows
from .comparisons import Comparison, compare_output, together, whole_answers
from .figures import Statistic, combined, constant, correlation, f1, mean, value_of
from .rankings import K, mean_of_queries, ndcg

Run = Callable[[Mapping[str, np.ndarray]], Mapping[str, np.ndarray]]
_BATCH = 32
_SPAN = ["start_logits", "end_logits"]


@dataclass
class Quality:
    """Held-out texts of a file, and the source's answers to them. Figures are points, from 0 to 100.

    With `labels` the figure is accuracy for class numbers `[texts]`, the F1 score of all decisions where several labels may
    hold, and the correlation for values; for values that order the texts of `queries [texts]` it is nDCG@10.

    Without, it is agreement with the source, of which the source itself has 100: equal classes for logits, or the logit of the one
    class that the source gives to all; for several labels the F1 score of the source's decisions; for values their concordance, or
    nDCG@10 of the source's order; for embeddings the Pearson correlation of all pairwise similarities, by the function that the task
    scores by (the mean cosine of one or two texts); for token embeddings the mean cosine. Only outputs that `task` reads count, and
    none that is but an input. `scoring` says how logits are read; `name` is that of the file.
    """

    texts: Sequence[Text]
    longest: int
    labels: np.ndarray | None = None
    scoring: Scoring | None = None
    task: str | None = None
    name: str = ""
    queries: np.ndarray | None = None
    _wanted: dict[str, list[Rows]] = field(default_factory=dict, repr=False)
    _source: Statistic = field(default=constant(100.0), repr=False)

    @property
    def metric(self) -> str:
        """Name of the figure."""
        if self.labels is None:
            return "agreement with the source"
        if self.scoring is not None and self.scoring.kind == "multi-label":
            return "F1"
        if self._ranks:
            return f"nDCG@{K}"
        return "correlation with the labels" if self._has_values else "accuracy"

    @property
    def source(self) -> float:
        """The points of the source."""
        return value_of(self._source, len(self.texts))

    @property
    def _has_values(self) -> bool:
        """Whether labels are more than yes and no."""
        if self.scoring is None or self.labels is None or self.scoring.kind != "value":
            return False
        return self.scoring.activation != "sigmoid" or not np.isin(self.labels, (0, 1)).all()

    @property
    def _ranks(self) -> bool:
        """Whether the model is a reranker, and its texts are several of one query."""
        if self.queries is None or self.scoring is None or self.scoring.kind != "value":
            return False
        several = len(np.unique(self.queries)) < len(self.queries)
        return several and (self.labels is None or self.labels.shape[1] == 1)

    def learn(self, run: Run, encode: Encode) -> None:
        """Keep the source's answers. SourceError where there is none to judge by, UsageError where all are the same."""
        moving: set[str] = set()
        self._wanted = {}
        for first, feeds in self._batches(encode):
            outputs = run(feeds)
            for name in read_outputs(list(outputs), self.task):
                self._wanted.setdefault(name, []).append(read_rows(name, outputs[name], feeds["attention_mask"], first))
                if not passed_through(name, outputs, feeds):
                    moving.add(name)
        self._wanted = {name: rows for name, rows in self._wanted.items() if name in moving}
        if not self._wanted or (self.labels is not None and "logits" not in self._wanted):
            wanted = (
                "the output `logits`, which labels are compared with" if self._wanted else "an output that is no input"
            )
            raise SourceError(f"the model lacks {wanted}: its quality cannot be judged")
        if len(self.texts) > 1 and all(_all_equal(joined(rows)) for rows in self._wanted.values()):
            raise UsageError(
                f"{self.name or 'the data'}: the source gives the same answer to all {len(self.texts)} held-out texts, so that no "
                "loss could be seen: give text that it answers differently"
            )
        if self.labels is not None:
            self._source = self._against_labels(joined(self._wanted["logits"]))

    def measure(self, run: Run, encode: Encode, kept_tokens: Sequence[int] | None = None) -> float:
        """Return the points of a model; the arguments are those of `judge`."""
        return self.judge(run, encode, kept_tokens).points

    def judge(self, run: Run, encode: Encode, kept_tokens: Sequence[int] | None = None) -> Agreement:
        """Return how a model does. `kept_tokens` are the old ids of a trimmed vocabulary, by which logits over tokens are compared."""
        given: dict[str, list[Rows]] = {name: [] for name in self._wanted}
        for first, feeds in self._batches(encode):
            outputs = run(feeds)
            for name, rows in given.items():
                rows.append(read_rows(name, outputs[name], feeds["attention_mask"], first))
        compared = together([self._compare(name, rows, kept_tokens) for name, rows in given.items()])
        others = compared.companions
        if sorted(given) == sorted(_SPAN):
            others = (whole_answers(list(self._wanted.values()), list(given.values())),)
        labeled = self.labels is not None
        now = self._against_labels(joined(given["logits"])) if labeled else combined([compared.statistic], [100.0])
        measure = self.metric if labeled else compared.measure
        beside = tuple(c for c in others if c.name != measure)
        return Agreement(self.name, len(self.texts), self.metric, measure, now, self._source, beside, compared.meaning)

    def _batches(self, encode: Encode) -> Iterator[tuple[int, Mapping[str, np.ndarray]]]:
        for first in range(0, len(self.texts), _BATCH):
            yield first, encode(self.texts[first : first + _BATCH], self.longest)

    def _compare(self, name: str, given: list[Rows], kept_tokens: Sequence[int] | None) -> Comparison:
        count, queries = len(self.texts), self.queries
        return compare_output(name, self._wanted[name], given, count, self.scoring, kept_tokens, self.task, queries)

    def _against_labels(self, logits: np.ndarray) -> Statistic:
        """Return the points of logits `[texts, columns]` by the labels."""
        assert self.labels is not None
        if self.scoring is None or self.scoring.kind == "single-label":
            return combined([mean((logits.argmax(axis=-1) == self.labels).astype(np.float64))], [100.0])
        scores, wanted = self.scoring.scores(logits), self.labels.reshape(logits.shape)
        if self._ranks and self.queries is not None:
            ranked = mean_of_queries(ndcg, wanted[:, 0], scores[:, 0], self.queries)
            assert ranked is not None, "some query has several texts"
            return combined([ranked], [100.0])
        decided = [x >= THRESHOLD for x in (scores, wanted)]
        if self.scoring.kind == "multi-label":
            return combined([f1(*decided)], [100.0])
        if self._has_values:
            columns = [correlation(s, w) for s, w in zip(scores.T, wanted.T, strict=True)]
            return combined(columns, [100.0 / len(columns)] * len(columns))
        return combined([mean((decided[0] == decided[1]).mean(axis=1))], [100.0])


def _all_equal(values: np.ndarray) -> bool:
    return bool((values == values[:1]).all())


@dataclass(frozen=True)
class Judge:
    """The held-out texts of every file, each judged by itself."""

    files: tuple[Quality, ...]

    @classmethod
    def of(
        cls,
        files: Sequence[TextFile],
        longest: int,
        scoring: Scoring | None,
        task: str | None,
        run: Run,
        encode: Encode,
    ) -> "Judge":
        """Return the judge by held-out texts, which `run`, the source, has answered."""
        qualities = tuple(Quality(f.texts, longest, f.labels, scoring, task, f.name, f.queries) for f in files)
        for quality in qualities:
            quality.learn(run, encode)
        return cls(qualities)

    @property
    def metric(self) -> str:
        """Name of the figure."""
        return self.files[0].metric

    @property
    def texts(self) -> list[Text]:
        """All texts, each once."""
        return list(dict.fromkeys(text for quality in self.files for text in quality.texts))

    def judge(self, run: Run, encode: Encode, kept_tokens: Sequence[int] | None = None) -> Judged:
        """Return how a model does on each file; the arguments are those of `Quality.judge`."""
        return Judged(tuple(quality.judge(run, encode, kept_tokens) for quality in self.files))
