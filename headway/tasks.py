"""Read logits as answers: probabilities, entities and answer spans."""

from typing import Any

import numpy as np


def softmax(logits: np.ndarray) -> np.ndarray:
    """Return probabilities over the last axis."""
    shifted = np.exp(logits - logits.max(axis=-1, keepdims=True))
    return shifted / shifted.sum(axis=-1, keepdims=True)


def entity_spans(
    text: str, encoding: Any, probabilities: np.ndarray, labels: list[str], outside: str
) -> list[dict[str, Any]]:
    """Return the entities of one text: `label`, `start`, `end` (characters), `score` and `text`.

    `encoding` is its `tokenizers.Encoding`, `probabilities` is `[tokens, labels]`, `outside` the label of no entity. The score
    of an entity is that of its least certain token.
    """
    spans: list[dict[str, Any]] = []
    previous_label, previous_index = None, -2
    for index, (start, end) in enumerate(encoding.offsets):
        if encoding.special_tokens_mask[index] or start == end:
            continue
        best = int(probabilities[index].argmax())
        label = labels[best].removeprefix("B-").removeprefix("I-")
        score = float(probabilities[index, best])
        if labels[best] == outside:
            previous_label = None
            continue
        if label == previous_label and index == previous_index + 1 and not labels[best].startswith("B-"):
            spans[-1]["end"] = end
            spans[-1]["score"] = min(spans[-1]["score"], score)
        else:
            spans.append({"label": label, "start": start, "end": end, "score": score})
        previous_label, previous_index = label, index
    return [{**s, "text": text[s["start"] : s["end"]]} for s in spans]


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
