"""Estimate how much each token of a vocabulary will be used by text that is still to come, from text that is there.

Presence alone misleads: of a few hundred short texts every fourth token occurs in one text only, and as many of the tokens of the next
text are in none. Their share is known, though: it is the share of tokens that occur in a single text (leaving one text out, after Good
and Turing). It goes to the tokens that were not seen, by the tokenizer's own ranks, among the scripts that the text is written in.
"""

from collections import Counter
from collections.abc import Collection, Iterable, Mapping, Sequence
from dataclasses import dataclass
from functools import cache
from typing import Any

import numpy as np

from ...errors import UsageError
from ...scripts import COMMON, script

MOST_UNSEEN = 0.05
"""With a larger share of tokens that no other text holds, the estimate is a guess about tokens that nobody has seen."""

_FOLDS = 5
_LEAST_COUNT = 0.1
"""Each token that was seen gives up the same part of a count to those that were not (absolute discounting), but keeps so much."""

_SLOWEST, _FASTEST = 0.2, 1.0
"""The share of unseen tokens falls with a power of the number of texts, which lies between these."""


@dataclass(frozen=True)
class TokenUse:
    """What is expected of each token, and how well that foretold each text from the others.

    `expected`: share of all tokens by id, float64 `[vocabulary]`, with sum 1. `scripts`: the script of each token by id. `used`: ids
    of all tokens of the text, int64 `[tokens]`, and `ranks`: their places in the order of expected use that texts of other folds
    give, int64 `[tokens]`.
    """

    expected: np.ndarray
    scripts: list[str]
    used: np.ndarray
    ranks: np.ndarray

    @property
    def ranked(self) -> list[int]:
        """Ids that can be expected at all, those of most use first."""
        return _ranked(self.expected)

    def coverage(self, count: int, always: Collection[int]) -> float:
        """Return the share of tokens of unseen text that are kept where the first `count` of `ranked` stay, and `always`."""
        return float(np.mean((self.ranks < count) | np.isin(self.used, list(always)))) if len(self.used) else 1.0

    def gone(self, kept: Collection[int], spelled: Collection[int]) -> list[str]:
        """Return the scripts of which pieces existed and none is kept; `spelled` are single characters, which always stay."""
        pieces = {i for i in range(len(self.scripts)) if i not in spelled}
        return sorted({self.scripts[i] for i in pieces} - {self.scripts[i] for i in pieces & set(kept)})


def estimate(
    content: Mapping[str, Any], vocabulary: Mapping[str, int], rows: Sequence[Sequence[int]], always: Collection[int]
) -> TokenUse:
    """Estimate the use of each token from the ids of texts, special tokens left out. `content` is that of a `tokenizer.json`.

    `always` are the ids that stay in any case: of those no text can lack one. UsageError where the text is too small for that,
    with how many texts are needed.
    """
    unseen = unseen_share(rows, always)
    if unseen > MOST_UNSEEN:
        raise UsageError(
            f"trim_vocabulary: {100 * unseen:.0f} % of the tokens of a text stand in none of the other {len(rows) - 1}, so what "
            f"further text needs cannot be told: give about {_needed(rows, always, unseen):,} texts like these, or leave the "
            "vocabulary whole"
        )
    size = max(vocabulary.values()) + 1
    scripts = scripts_of(content, vocabulary)
    prior, names = _prior(content, vocabulary, size), np.array(scripts)
    used, ranks = [np.empty(0, np.int64)], [np.empty(0, np.int64)]
    for fold in range(_FOLDS):
        others = [row for i, row in enumerate(rows) if i % _FOLDS != fold]
        place = np.full(size, size)
        order = _ranked(_expected(others, always, names, prior))
        place[order] = np.arange(len(order))
        used.append(np.array([i for row in rows[fold::_FOLDS] for i in row], np.int64))
        ranks.append(place[used[-1]])
    expected = _expected(rows, always, names, prior)
    return TokenUse(expected, scripts, np.concatenate(used), np.concatenate(ranks))


def _expected(
    rows: Sequence[Sequence[int]], always: Collection[int], scripts: np.ndarray, prior: np.ndarray
) -> np.ndarray:
    """Return the expected share of each token: what was seen, less what goes to tokens that were not."""
    unseen = unseen_share(rows, always)
    counts = np.zeros(len(scripts))
    for row in rows:
        np.add.at(counts, list(row), 1)
    there = counts > 0
    seen = np.where(there, np.maximum(counts - unseen * counts.sum() / max(1, there.sum()), _LEAST_COUNT), 0.0)
    seen /= max(1.0, seen.sum())
    guess = np.zeros(len(scripts))
    for name in np.unique(scripts[there]):
        of_script = scripts == name
        unused = prior * of_script * ~there
        if unused.any():
            guess += seen[of_script].sum() * unused / unused.sum()
    left = float(guess.sum())
    return (1 - unseen) * seen + unseen * guess / left if left else seen


def _ranked(expected: np.ndarray) -> list[int]:
    return [int(i) for i in np.argsort(-expected, kind="stable") if expected[i] > 0]


def unseen_share(rows: Sequence[Sequence[int]], always: Collection[int]) -> float:
    """Return the share of tokens that stand in one of the texts alone and are not kept `always`: what a further text would miss."""
    total = sum(map(len, rows))
    texts = Counter(i for row in rows for i in set(row))
    single = {i for i, count in texts.items() if count == 1}.difference(always)
    return sum(i in single for row in rows for i in row) / total if total else 1.0


def _needed(rows: Sequence[Sequence[int]], always: Collection[int], unseen: float) -> int:
    """Return about how many texts bring the share of unseen tokens down to what is taken, in two digits."""
    half = unseen_share(rows[: max(1, len(rows) // 2)], always)
    power = float(np.clip(np.log2(half / unseen) if half > unseen else 0.0, _SLOWEST, _FASTEST))
    count = len(rows) * (unseen / MOST_UNSEEN) ** (1 / power)
    digits = 10 ** max(0, int(np.log10(count)) - 1)
    return int(np.ceil(count / digits)) * digits


def _prior(content: Mapping[str, Any], vocabulary: Mapping[str, int], size: int) -> np.ndarray:
    """Return what the tokenizer itself says about frequency: Unigram's probabilities; Zipf's law by rank for the others."""
    model = content["model"]
    prior = np.zeros(size)
    if model["type"] == "Unigram":
        scores = np.array([float(score) for _, score in model["vocab"]])
        prior[: len(scores)] = np.exp(scores - scores.max())
        return prior
    ids = sorted(vocabulary.values())
    prior[ids] = 1 / (np.arange(len(ids)) + 1)
    return prior


def scripts_of(content: Mapping[str, Any], vocabulary: Mapping[str, int]) -> list[str]:
    """Return the script of each token by id, in lower case as Unicode names it: latin, cyrillic, cjk …; common without letters."""
    model = content["model"]
    byte_level = "ByteLevel" in {*_kinds(content.get("pre_tokenizer")), *_kinds(content.get("decoder"))}
    special = {t["id"] for t in content.get("added_tokens", []) if t.get("special")}
    scripts = [COMMON] * (max(vocabulary.values()) + 1)
    marks = [m for m in (model.get("continuing_subword_prefix"), model.get("end_of_word_suffix")) if m]
    for token, i in vocabulary.items():
        if i in special:
            continue
        bare = token
        for mark in marks:
            bare = bare.removeprefix(mark).removesuffix(mark)
        scripts[i] = script(_of_bytes(bare) if byte_level else bare)
    return scripts


def _kinds(part: Any) -> Iterable[str]:
    """Yield the types of a pre-tokenizer or decoder and of its steps."""
    if isinstance(part, Mapping):
        yield str(part.get("type"))
        for step in part.get("pretokenizers", part.get("decoders", [])):
            yield from _kinds(step)


@cache
def _byte_alphabet() -> dict[str, int]:
    """Return the bytes that the characters of byte-level BPE stand for: printable ones for themselves, the others from 256 on."""
    plain = [*range(ord("!"), ord("~") + 1), *range(0xA1, 0xAD), *range(0xAE, 0x100)]
    others = [b for b in range(256) if b not in plain]
    return {chr(b): b for b in plain} | {chr(256 + n): b for n, b in enumerate(others)}


def _of_bytes(token: str) -> str:
    alphabet = _byte_alphabet()
    return bytes(alphabet[c] for c in token if c in alphabet).decode("utf-8", errors="ignore")
