"""Read the logits of a model of natural language inference as scores of labels that it was never trained on."""

from collections.abc import Mapping, Sequence

import numpy as np

from .errors import UsageError
from .tasks import softmax

TEMPLATE = "This example is {}."
"""The sentence whose truth is asked for each label, as in the pipeline of transformers."""


def entailment(labels: Mapping[str, str]) -> int | None:
    """Return the index of the class that says that a sentence follows; None where no label begins with "entail"."""
    return next((int(i) for i, name in labels.items() if name.lower().startswith("entail")), None)


def hypotheses(labels: Sequence[str], template: str) -> list[str]:
    """Return the sentence of each label. UsageError where there are no labels, or the template has no place for one."""
    if isinstance(labels, str) or not all(isinstance(label, str) for label in labels):
        raise UsageError("labels are a list of strings")
    if not labels:
        raise UsageError("there are no labels; give at least one")
    if len(set(labels)) < len(labels):
        raise UsageError("a label is given twice; give each once")
    try:
        sentences = [template.format(label) for label in (*labels, "", "x")]
    except (AttributeError, IndexError, KeyError, TypeError, ValueError) as error:
        raise UsageError(f"template {template!r}: {{}} is expected where the label goes") from error
    if sentences.pop() == sentences.pop():
        raise UsageError(f"template {template!r} has no {{}}, where the label goes")
    return sentences


def label_scores(logits: np.ndarray, follows: int, *, multi_label: bool) -> np.ndarray:
    """Return scores `[texts, labels]` of the logits `[texts, labels, classes]` of pairs of a text and a label's sentence.

    `follows` is the class of entailment. With `multi_label`, or one label, a score is the probability of entailment against that of
    contradiction, the class at the other end; otherwise the scores of a text are probabilities among the labels.
    """
    if not multi_label and logits.shape[1] > 1:
        return softmax(logits[..., follows])
    opposite = -1 if follows == 0 else 0
    return softmax(logits[..., [opposite, follows]])[..., 1]
