"""Read logits as answers: scores of labels, candidates for a mask, and answer spans."""

from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass
from typing import Any, Literal

import numpy as np

Kind = Literal["single-label", "multi-label", "value"]
Activation = Literal["softmax", "sigmoid", "tanh", "identity"]

THRESHOLD = 0.5
"""A label of a multi-label classifier holds from this score on."""

_READ = (("sentence_embedding",), ("logits",), ("start_logits", "end_logits"), ("last_hidden_state",))
"""Outputs that answers are read from, the first that a model has: a sentence embedding stands for the vectors it is pooled from."""

_READ_BY_TASK: Mapping[str, tuple[tuple[str, ...], ...]] = {
    "feature-extraction": (("sentence_embedding",), ("last_hidden_state",)),
    "sentence-embedding": (("sentence_embedding",),),
    "sparse-embedding": (("sentence_embedding",),),
    "multi-vector": (("token_embeddings",),),
    "question-answering": (("start_logits", "end_logits"),),
    "fill-mask": (("logits",),),
    "text-classification": (("logits",),),
    "token-classification": (("logits",),),
    "multiple-choice": (("logits",),),
}

_KINDS: dict[str, tuple[Activation, ...]] = {
    "single-label": ("softmax",),
    "multi-label": ("sigmoid",),
    "value": ("sigmoid", "tanh", "identity"),
}


@dataclass(frozen=True)
class Scoring:
    """How the logits of a text classifier are read: the one place where this is decided.

    `kind`: exactly one label holds (`single-label`), any number of them (`multi-label`), or each logit is a value by itself
    (`value`: a reranker's score, or a regression). `activation` makes scores of logits.
    """

    kind: Kind
    activation: Activation

    @classmethod
    def decide(cls, columns: int, problem_type: str | None = None, activation: Activation | None = None) -> "Scoring":
        """Return how `columns` logits are read, as transformers' pipeline and sentence-transformers' CrossEncoder read them.

        `problem_type` is the config's, `activation` that which a cross-encoder's config names.
        """
        if problem_type == "multi_label_classification":
            return cls("multi-label", "sigmoid")
        if columns > 1 and problem_type != "regression":
            if activation == "sigmoid":
                return cls("multi-label", "sigmoid")
            return cls("value", "tanh") if activation == "tanh" else SINGLE_LABEL
        if activation is None or activation == "softmax":
            activation = "identity" if problem_type == "regression" else "sigmoid"
        return cls("value", activation)

    @classmethod
    def of(cls, stored: Mapping[str, Any], columns: int) -> "Scoring":
        """Return what a manifest says. One that says nothing is older: the number of its labels decides."""
        kind, activation = stored.get("kind"), stored.get("activation")
        if kind is None:
            return cls.decide(columns)
        if activation not in _KINDS.get(kind, ()):
            raise ValueError(f"scoring {kind!r} by {activation!r}")
        return cls(kind, activation)

    def record(self) -> dict[str, str]:
        """Return what a manifest stores."""
        return asdict(self)

    def meaning(self) -> str:
        """Return what the scores are, in words."""
        if self.kind == "single-label":
            return "probabilities, of which one label holds"
        if self.kind == "multi-label":
            return f"a probability for each label by itself; those from {THRESHOLD:g} on hold"
        ranges = {"sigmoid": "values from 0 to 1", "tanh": "values from -1 to 1", "identity": "plain values"}
        return ranges[self.activation]

    def scores(self, logits: np.ndarray) -> np.ndarray:
        """Return the scores of logits `[texts, labels]`, of the same shape."""
        if self.activation == "softmax":
            return softmax(logits)
        if self.activation == "sigmoid":
            return sigmoid(logits)
        return np.tanh(logits) if self.activation == "tanh" else logits


SINGLE_LABEL = Scoring("single-label", "softmax")


def read_outputs(names: Sequence[str], task: str | None = None) -> list[str]:
    """Return those of a model's outputs that its task reads; all of them where it has none of the usual names."""
    for wanted in (*_READ_BY_TASK.get(task or "", ()), *_READ):
        if all(name in names for name in wanted):
            return list(wanted)
    return list(names)


def softmax(logits: np.ndarray) -> np.ndarray:
    """Return probabilities over the last axis."""
    shifted = np.exp(logits - logits.max(axis=-1, keepdims=True))
    return shifted / shifted.sum(axis=-1, keepdims=True)


def sigmoid(logits: np.ndarray) -> np.ndarray:
    """Return the probability of each logit by itself, without overflow."""
    small = np.exp(-np.abs(logits))
    return np.where(logits >= 0, 1, small) / (1 + small)


def best_answer(
    context: str, encoding: Any, start_logits: np.ndarray, end_logits: np.ndarray, longest: int
) -> dict[str, Any]:
    """Return the span of `context` with the largest sum of start and end logits, at most `longest` tokens long.

    `encoding` is that of the pair (question, context); the logits are `[tokens]`. Without a token of the context the answer
    is empty and its score -inf.
    """
    inside = np.array([s == 1 for s in encoding.sequence_ids])
    n = len(inside)
    scores = start_logits[:n, None] + end_logits[None, :n]
    allowed = inside[:, None] & inside[None, :]
    distance = np.arange(n)[None, :] - np.arange(n)[:, None]
    scores = np.where(allowed & (distance >= 0) & (distance < longest), scores, -np.inf)
    first, last = np.unravel_index(int(scores.argmax()), scores.shape)
    if not np.isfinite(scores[first, last]):
        return {"answer": "", "start": 0, "end": 0, "score": float("-inf")}
    start, end = encoding.offsets[first][0], encoding.offsets[last][1]
    return {"answer": context[start:end], "start": start, "end": end, "score": float(scores[first, last])}


def best_of(answers: Sequence[dict[str, Any]]) -> dict[str, Any]:
    """Return the answer with the largest score of those from all windows of a context, the first of equal ones."""
    return max(answers, key=lambda answer: float(answer["score"]))


def likeliest(logits: np.ndarray, count: int) -> list[tuple[int, float]]:
    """Return the `count` likeliest ids and their probabilities, of logits `[ids]`; equal ones in the order of ids."""
    probabilities = softmax(logits)
    order = np.argsort(-probabilities, kind="stable")[:count]
    return [(int(i), float(probabilities[i])) for i in order]
