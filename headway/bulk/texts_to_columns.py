"""Answer many texts by a bundle, as columns of a table: batches by tokens, several at once, each by one thread."""

from collections.abc import Callable, Collection, Iterator, Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Literal, TypeVar

import numpy as np

from ..bundle import Bundle
from ..embeddings import Sparse, prompt_for, sparse_rows
from ..errors import UsageError
from ..serving.speed_table import measure_bundle
from ..text import checked_singles

Dtype = Literal["float32", "float16", "int8"]
"""How embeddings are stored. int8 has a scale for each: embedding = integers * scale."""

Column = np.ndarray | list[Any]
Made = TypeVar("Made")

_LATENCY = 60.0
"""Seconds within which a batch has to end: nobody waits for it, so that throughput alone decides its size."""


@dataclass(frozen=True)
class Answers:
    """A column for each kind of answer, with a row for each text; and how many tokens the texts had."""

    columns: dict[str, Column] = field(default_factory=dict)
    tokens: int = 0

    def check_free(self, names: Collection[str]) -> None:
        """Raise UsageError where columns of the data have the name of one of these."""
        for name in self.columns:
            if name in names:
                raise UsageError(f"the data has a column {name!r} already, which the answers have too: rename it")

    @property
    def truncated(self) -> int:
        """Return how many texts were longer than the model reads."""
        return int(np.sum(self.columns["truncated"])) if self.columns else 0


class TextsToColumns:
    """Answer texts by a bundle for dense or sparse embeddings, classes of texts, or entities.

    `lanes` batches are computed at once, each by one thread. The tokens of a batch are measured: the fewest that reach the best
    throughput. UsageError for other tasks, for a `prompt_name` that there is none of, and for a `dtype` where embeddings are not dense.
    """

    def __init__(self, directory: Path, *, lanes: int = 1, dtype: Dtype = "float32", prompt_name: str | None = None):
        self.bundle = Bundle.open(directory, threads=1)
        manifest = self.bundle.manifest
        if manifest.task not in _ANSWERS:
            raise UsageError(f"{directory}: made for {manifest.task}; this runs bundles for {', '.join(_ANSWERS)}")
        if manifest.task != "sentence-embedding" and dtype != "float32":
            raise UsageError(f"{directory}: made for {manifest.task}: a dtype is for sentence-embedding alone")
        self._answer = _ANSWERS[manifest.task]
        self._front = prompt_for(manifest.prompts, prompt_name, None)
        self.dtype: Dtype = dtype
        self.budget = measure_bundle(self.bundle, _LATENCY).budget(_LATENCY)
        self._lanes = ThreadPoolExecutor(lanes, "headway-bulk")

    def __call__(self, texts: Sequence[str]) -> Answers:
        """Return the answers to texts. UsageError names a text that is none."""
        checked = [self._front + text for text in checked_singles(texts)]
        encodings = self.bundle.encoder.encode(checked)
        self.bundle.check_tokens(encodings)
        columns = dict(self._answer(self, checked, encodings))
        columns["truncated"] = np.array([self.bundle.encoder.truncated(e) for e in encodings], bool)
        return Answers(columns, sum(len(e.ids) for e in encodings))

    def outputs(self, encodings: Sequence[Any]) -> dict[str, np.ndarray]:
        """Return the outputs that have a row for each text, by name, in the order of the texts."""
        names = [o.name for o in self.bundle.manifest.outputs if "sequence" not in o.shape]
        results: dict[str, np.ndarray] = {}
        for rows, part in self._each(encodings, lambda outputs: {name: outputs[name] for name in names}):
            for name in names:
                if name not in results:
                    results[name] = np.zeros((len(encodings), *part[name].shape[1:]), part[name].dtype)
                results[name][rows] = part[name]
        return results or {name: array for name, array in self.bundle([]).items() if name in names}

    def sparse(self, encodings: Sequence[Any]) -> list[Sparse]:
        """Return the embedding of each text without its zeros: all rows of dense ones would not fit into memory."""
        found: list[Any] = [None] * len(encodings)

        def make(outputs: dict[str, np.ndarray]) -> list[Sparse]:
            embeddings = outputs["sentence_embedding"]
            return sparse_rows(embeddings, [False] * len(embeddings))

        for rows, part in self._each(encodings, make):
            for row, one in zip(rows, part, strict=True):
                found[row] = one
        return found

    def _each(
        self, encodings: Sequence[Any], make: Callable[[dict[str, np.ndarray]], Made]
    ) -> Iterator[tuple[np.ndarray, Made]]:
        """Yield what is made of the outputs of each batch, with the rows of the batch."""

        def run(rows: np.ndarray) -> tuple[np.ndarray, Made]:
            return rows, make(self.bundle.runner.run(self.bundle.encoder.batch([encodings[i] for i in rows])))

        return self._lanes.map(run, batches([len(e.ids) for e in encodings], self.budget))

    def entities(self, texts: Sequence[str]) -> list[Any]:
        """Return the entities of each text, as `Bundle.entities` does."""
        size = max(1, self.budget // self.bundle.manifest.tokenizer.max_length)
        groups = [texts[start : start + 8 * size] for start in range(0, len(texts), 8 * size)]
        return [
            list(found)
            for part in self._lanes.map(lambda g: self.bundle.entities(g, batch_size=size), groups)
            for found in part
        ]


def batches(lengths: Sequence[int], budget: int) -> list[np.ndarray]:
    """Return batches of rows, neighbors in length together, each of at most `budget` tokens with its padding, or of one row."""
    order = np.argsort(lengths, kind="stable")
    found, start = [], 0
    for end in range(1, len(order) + 1):
        if end == len(order) or (end + 1 - start) * lengths[order[end]] > budget:
            found.append(order[start:end])
            start = end
    return found


def _embeddings(runs: TextsToColumns, texts: Sequence[str], encodings: Sequence[Any]) -> Mapping[str, Column]:
    vectors = runs.outputs(encodings)["sentence_embedding"]
    if runs.dtype != "int8":
        return {"embedding": vectors.astype(runs.dtype)}
    scale = np.abs(vectors).max(axis=1) / np.float32(127)
    integers = np.rint(vectors / np.where(scale > 0, scale, 1)[:, None])
    return {"embedding": integers.astype(np.int8), "embedding_scale": scale}


def _sparse(runs: TextsToColumns, texts: Sequence[str], encodings: Sequence[Any]) -> Mapping[str, Column]:
    rows = runs.sparse(encodings)
    return {"indices": [row.indices for row in rows], "weights": [row.weights for row in rows]}


def _classes(runs: TextsToColumns, texts: Sequence[str], encodings: Sequence[Any]) -> Mapping[str, Column]:
    """Return the likeliest label with its score; a column for each label where any number of them may hold."""
    scoring, labels = runs.bundle.scoring, runs.bundle.manifest.labels
    scores = scoring.scores(runs.outputs(encodings)["logits"])
    names = [labels.get(str(i), f"LABEL_{i}") for i in range(scores.shape[1])]
    if scoring.kind == "single-label":
        best = scores.argmax(axis=1)
        return {"label": [names[i] for i in best], "score": np.take_along_axis(scores, best[:, None], 1)[:, 0]}
    if len(names) == 1:
        return {"score": scores[:, 0]}
    return {f"score_{name}": scores[:, i] for i, name in enumerate(names)}


def _entities(runs: TextsToColumns, texts: Sequence[str], encodings: Sequence[Any]) -> Mapping[str, Column]:
    return {"entities": runs.entities(texts)}


_ANSWERS: dict[str, Callable[[TextsToColumns, Sequence[str], Sequence[Any]], Mapping[str, Column]]] = {
    "sentence-embedding": _embeddings,
    "sparse-embedding": _sparse,
    "text-classification": _classes,
    "token-classification": _entities,
}
