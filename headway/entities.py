"""Join labeled tokens to entities, as the token-classification pipeline of transformers does."""

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Any, Literal, get_args

import numpy as np

from .errors import UsageError
from .results import Entities

Aggregation = Literal["simple", "first", "average", "max"]
AGGREGATIONS: tuple[str, ...] = get_args(Aggregation)


@dataclass(frozen=True)
class Token:
    """A token or a word: where it stands, in characters, and its probabilities. `continues`: it belongs to the word before it."""

    start: int
    end: int
    probabilities: np.ndarray
    continues: bool = False


@dataclass(frozen=True)
class _Named:
    """A token or a word with the label that was chosen for it."""

    start: int
    end: int
    label: str
    score: float


def check_aggregation(aggregation: str) -> None:
    """Raise UsageError where a way to join tokens is not known."""
    if aggregation not in AGGREGATIONS:
        raise UsageError(f"aggregation {aggregation!r} is not known; choose one of {', '.join(AGGREGATIONS)}")


def tokens_of(
    text: str, encoding: Any, probabilities: np.ndarray, *, prefixed: bool, unknown: int | None
) -> list[Token]:
    """Return the tokens of a text without special ones; `probabilities` are `[tokens, labels]`.

    `prefixed`: the tokenizer marks tokens that continue a word. Otherwise one continues the word before it where no space is
    between them. An `unknown` token is a word by itself. These are the pipeline's rules.
    """
    tokens = []
    for index, (start, end) in enumerate(encoding.offsets):
        if encoding.special_tokens_mask[index]:
            continue
        marked = len(encoding.tokens[index]) != end - start
        joined = marked if prefixed else start > 0 and " " not in text[start - 1 : start + 1]
        tokens.append(Token(start, end, probabilities[index], joined and encoding.ids[index] != unknown))
    return tokens


def entity_spans(
    text: str, tokens: Sequence[Token], labels: Sequence[str], *, outside: str, aggregation: str
) -> Entities:
    """Return the entities of a text: `label`, `start`, `end` (characters), `score` and `text`.

    `simple` labels each token, the others each word: by its `first` token, by the `average` of its tokens' probabilities, or
    by its surest token (`max`). Neighbors of one label join, unless a `B-` begins anew. The score of an entity is the mean
    of its parts. `outside` is the label of no entity.
    """
    if aggregation == "simple":
        named = [_named([t], labels, _first) for t in tokens]
    else:
        named = [_named(word, labels, _CHOICES[aggregation]) for word in _words(tokens)]
    groups: list[list[_Named]] = []
    for item in named:
        if groups and _tag(item.label) == _tag(groups[-1][-1].label) and not item.label.startswith("B-"):
            groups[-1].append(item)
        else:
            groups.append([item])
    spans = Entities()
    for group in groups:
        label, start, end = group[0].label.split("-", 1)[-1], group[0].start, group[-1].end
        if label != outside:
            score = float(np.mean([g.score for g in group]))
            spans.append({"label": label, "start": start, "end": end, "score": score, "text": text[start:end]})
    return spans


def _words(tokens: Sequence[Token]) -> list[list[Token]]:
    words: list[list[Token]] = []
    for token in tokens:
        if words and token.continues:
            words[-1].append(token)
        else:
            words.append([token])
    return words


def _first(word: Sequence[Token]) -> np.ndarray:
    return word[0].probabilities


def _average(word: Sequence[Token]) -> np.ndarray:
    return np.mean([t.probabilities for t in word], axis=0)


def _surest(word: Sequence[Token]) -> np.ndarray:
    return max(word, key=lambda t: float(t.probabilities.max())).probabilities


_CHOICES: dict[str, Callable[[Sequence[Token]], np.ndarray]] = {"first": _first, "average": _average, "max": _surest}


def _named(word: Sequence[Token], labels: Sequence[str], choose: Callable[[Sequence[Token]], np.ndarray]) -> _Named:
    probabilities = choose(word)
    best = int(probabilities.argmax())
    return _Named(word[0].start, word[-1].end, labels[best], float(probabilities[best]))


def _tag(label: str) -> str:
    """Return a label without the prefix by which it begins or continues an entity."""
    return label[2:] if label.startswith(("B-", "I-")) else label
