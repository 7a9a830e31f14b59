"""Measure how much of its source's quality a compressed model keeps, on text that compression did not see."""

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field

import numpy as np

from ...calibration.batches import Encode
from ...errors import GateError

Run = Callable[[Mapping[str, np.ndarray]], Mapping[str, np.ndarray]]
_BATCH = 32


@dataclass
class Quality:
    """Held-out texts, and the source's answers to them. Figures are points, from 0 to 100.

    With `labels`, class numbers `[texts]`, the figure is accuracy. Without, it is agreement with the source, of which the source itself
    has 100: equal classes for logits; for sentence embeddings the Pearson correlation of all pairwise similarities (the mean cosine
    of one or two texts); for token embeddings the mean cosine.
    """

    texts: list[str]
    longest: int
    labels: np.ndarray | None = None
    source: float = 100.0
    _wanted: list[dict[str, np.ndarray]] = field(default_factory=list, repr=False)

    @property
    def metric(self) -> str:
        """Name of the figure."""
        return "accuracy" if self.labels is not None else "agreement with the source"

    def learn(self, run: Run, encode: Encode) -> None:
        """Keep the source's answers."""
        self._wanted = [_main(run(feeds), feeds) for feeds in self._batches(encode)]
        if self.labels is not None:
            self.source = self._accuracy(self._wanted)

    def measure(self, run: Run, encode: Encode, kept_tokens: Sequence[int] | None = None) -> float:
        """Return the points of a model. `kept_tokens` are the old ids of a trimmed vocabulary, by which logits over tokens are compared."""
        answers = [_main(run(feeds), feeds) for feeds in self._batches(encode)]
        if self.labels is not None:
            return self._accuracy(answers)
        scores = [self._agreement(name, answers, kept_tokens) for name in answers[0]]
        return float(np.mean(scores))

    def _batches(self, encode: Encode) -> list[dict[str, np.ndarray]]:
        return [encode(self.texts[i : i + _BATCH], self.longest) for i in range(0, len(self.texts), _BATCH)]

    def _accuracy(self, answers: Sequence[Mapping[str, np.ndarray]]) -> float:
        classes = np.concatenate([f["logits"].argmax(axis=-1) for f in answers])
        return 100.0 * float(np.mean(classes == self.labels))

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
