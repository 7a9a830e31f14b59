"""Measure how much of its source's quality a compressed model keeps, on text that compression did not see."""

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field

import numpy as np

from ...calibration.batches import Encode
from ...errors import GateError
from ...tasks import THRESHOLD, Scoring

Run = Callable[[Mapping[str, np.ndarray]], Mapping[str, np.ndarray]]
_BATCH = 32


@dataclass
class Quality:
    """Held-out texts, and the source's answers to them. Figures are points, from 0 to 100.

    With `labels` the figure is accuracy for class numbers `[texts]`, the F1 score of all decisions where several labels may
    hold, and the correlation for values. Without, it is agreement with the source, of which the source itself has 100: equal
    classes for logits; for several labels the F1 score of the source's decisions; for values their concordance; for sentence
    embeddings the Pearson correlation of all pairwise similarities (the mean cosine of one or two texts); for token embeddings the
    mean cosine. `scoring` says how logits are read.
    """

    texts: list[str]
    longest: int
    labels: np.ndarray | None = None
    scoring: Scoring | None = None
    source: float = 100.0
    _wanted: list[dict[str, np.ndarray]] = field(default_factory=list, repr=False)

    @property
    def metric(self) -> str:
        """Name of the figure."""
        if self.labels is None:
            return "agreement with the source"
        if self.scoring is not None and self.scoring.kind == "multi-label":
            return "F1"
        return "correlation with the labels" if self._has_values else "accuracy"

    @property
    def _has_values(self) -> bool:
        """Whether labels are more than yes and no."""
        if self.scoring is None or self.labels is None or self.scoring.kind != "value":
            return False
        return self.scoring.activation != "sigmoid" or not np.isin(self.labels, (0, 1)).all()

    def learn(self, run: Run, encode: Encode) -> None:
        """Keep the source's answers."""
        self._wanted = [_main(run(feeds), feeds) for feeds in self._batches(encode)]
        if self.labels is not None:
            self.source = self._against_labels(self._wanted)

    def measure(self, run: Run, encode: Encode, kept_tokens: Sequence[int] | None = None) -> float:
        """Return the points of a model. `kept_tokens` are the old ids of a trimmed vocabulary, by which logits over tokens are compared."""
        answers = [_main(run(feeds), feeds) for feeds in self._batches(encode)]
        if self.labels is not None:
            return self._against_labels(answers)
        scores = [self._agreement(name, answers, kept_tokens) for name in answers[0]]
        return float(np.mean(scores))

    def _batches(self, encode: Encode) -> list[dict[str, np.ndarray]]:
        return [encode(self.texts[i : i + _BATCH], self.longest) for i in range(0, len(self.texts), _BATCH)]

    def _against_labels(self, answers: Sequence[Mapping[str, np.ndarray]]) -> float:
        assert self.labels is not None
        logits = np.concatenate([f["logits"] for f in answers])
        if self.scoring is None or self.scoring.kind == "single-label":
            return 100.0 * float(np.mean(logits.argmax(axis=-1) == self.labels))
        scores, wanted = self.scoring.scores(logits), self.labels.reshape(logits.shape)
        if self.scoring.kind == "multi-label":
            return 100.0 * _f1(scores >= THRESHOLD, wanted >= THRESHOLD)
        if self._has_values:
            return 100.0 * float(np.mean([_pearson(s, w) for s, w in zip(scores.T, wanted.T, strict=True)]))
        return 100.0 * float(np.mean((scores >= THRESHOLD) == (wanted >= THRESHOLD)))

    def _agreement(
        self, name: str, answers: Sequence[Mapping[str, np.ndarray]], kept_tokens: Sequence[int] | None
    ) -> float:
        wanted = [w[name] for w in self._wanted]
        given = [f[name] for f in answers]
        if kept_tokens is not None and wanted[0].shape[-1] != given[0].shape[-1]:
            wanted = [w[..., list(kept_tokens)] for w in wanted]
        pairs = [(w, g) for w, g in zip(wanted, given, strict=True) if w.shape == g.shape]
        if not pairs:
            return 0.0
        if name == "sentence_embedding" and len(self.texts) > 2:  # of one or two texts there is nothing to correlate
            return 100.0 * _similarity_correlation(np.concatenate(wanted), np.concatenate(given))
        if name == "logits" and self.scoring is not None and self.scoring.kind != "single-label":
            return 100.0 * _agreement_of_scores(np.concatenate(wanted), np.concatenate(given), self.scoring)
        if name.endswith("logits") and wanted[0].shape[-1] > 1:
            same = [np.mean(w.argmax(axis=-1) == g.argmax(axis=-1)) for w, g in pairs]
            return 100.0 * float(np.average(same, weights=[len(w) for w, _ in pairs]))
        if name.endswith("logits"):
            return 100.0 * _pearson(np.concatenate(wanted).ravel(), np.concatenate(given).ravel())
        a, b = np.concatenate([w for w, _ in pairs]), np.concatenate([g for _, g in pairs])
        return 100.0 * float(np.mean((a * b).sum(-1) / (np.linalg.norm(a, axis=-1) * np.linalg.norm(b, axis=-1))))


def _main(outputs: Mapping[str, np.ndarray], feeds: Mapping[str, np.ndarray]) -> dict[str, np.ndarray]:
    """Return the outputs that count, without padding: `[rows, features]`."""
    mask = feeds["attention_mask"].astype(bool)
    names = ["sentence_embedding"] if "sentence_embedding" in outputs else list(outputs)
    counted = {}
    for name in names:
        value = outputs[name]
        if name.endswith("_logits") and value.shape == mask.shape:
            counted[name] = np.where(mask, value, -np.inf)
        else:
            counted[name] = value[mask] if value.shape[: mask.ndim] == mask.shape and value.ndim > mask.ndim else value
    return counted


def _similarity_correlation(a: np.ndarray, b: np.ndarray) -> float:
    upper = np.triu_indices(len(a), 1)

    def similarities(x: np.ndarray) -> np.ndarray:
        x = x / np.linalg.norm(x, axis=1, keepdims=True)
        return (x @ x.T)[upper]

    return _pearson(similarities(a), similarities(b))


def _agreement_of_scores(wanted: np.ndarray, given: np.ndarray, scoring: Scoring) -> float:
    """Return how well logits `[texts, labels]` agree, 1 where they are equal."""
    if scoring.kind == "multi-label":
        right = scoring.scores(wanted) >= THRESHOLD
        if right.any():
            return _f1(scoring.scores(given) >= THRESHOLD, right)
    elif scoring.activation == "tanh":
        wanted, given = np.tanh(wanted), np.tanh(given)
    return float(np.mean([_concordance(w, g) for w, g in zip(wanted.T, given.T, strict=True)]))


def _f1(given: np.ndarray, wanted: np.ndarray) -> float:
    """Return the F1 score of all decisions together; 1 where there is nothing to find, and nothing was found."""
    hits, decided = int((given & wanted).sum()), int(given.sum()) + int(wanted.sum())
    return 2 * hits / decided if decided else 1.0


def _concordance(a: np.ndarray, b: np.ndarray) -> float:
    """Return Lin's concordance of two rows of values: their correlation, less what a shift or another scale takes from it."""
    a, b = a.astype(np.float64), b.astype(np.float64)
    if len(a) < 2 or np.array_equal(a, b):
        size = max(float(np.abs(a).max(initial=0)), 1e-12)
        return max(0.0, 1.0 - float(np.abs(a - b).max(initial=0)) / size)
    spread = float(a.var() + b.var() + (a.mean() - b.mean()) ** 2)
    return 2 * float(((a - a.mean()) * (b - b.mean())).mean()) / spread if spread else 1.0


def _pearson(a: np.ndarray, b: np.ndarray) -> float:
    a, b = a - a.mean(), b - b.mean()
    size = float(np.linalg.norm(a) * np.linalg.norm(b))
    return float((a * b).sum()) / size if size else 1.0


def check_drop(quality: Quality, points: float, most: float) -> None:
    """Raise GateError where more than `most` points are lost."""
    drop = quality.source - points
    if drop > most:
        raise GateError(
            f"{drop:.2f} points of {quality.metric} were lost on held-out text, {most:g} are allowed: ask for less, add "
            "--recover, or raise --max-drop if the loss is acceptable. Nothing was written"
        )
