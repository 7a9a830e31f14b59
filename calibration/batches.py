"""Make batches of token ids from text for calibration: similar lengths together, little padding, a fixed order."""

import warnings
from collections.abc import Callable, Iterable, Iterator, Sequence
from dataclasses import dataclass
from itertools import islice

import numpy as np

from ..errors import HeadwayWarning, UsageError
from ..text import Text

MOST_UNKNOWN, MANY_UNKNOWN = 0.25, 0.05
"""Fractions of unknown tokens above which text is refused, or warned about. Text of the right language has well below 1 %."""

_AT_ONCE = 256

Encode = Callable[[Sequence[Text], int | None], dict[str, np.ndarray]]
"""Texts or pairs and a limit in tokens, or None → int64 `[texts, sequence]` by input name, as `TextEncoder` returns them."""


@dataclass(frozen=True)
class Batch:
    """Arrays int64 `[texts, sequence]` by input name, and the indices of their texts."""

    feeds: dict[str, np.ndarray]
    rows: np.ndarray

    @property
    def mask(self) -> np.ndarray:
        """Return which tokens are no padding, bool `[texts, sequence]`."""
        return self.feeds["attention_mask"].astype(bool)


def token_lengths(encode: Encode, lines: Sequence[Text], longest: int) -> np.ndarray:
    """Return the number of tokens of each text, special ones included, at most `longest`: int64 `[texts]`."""
    starts = range(0, len(lines), _AT_ONCE)
    parts = [encode(lines[i : i + _AT_ONCE], longest)["attention_mask"].sum(axis=1) for i in starts]
    return np.concatenate(parts).astype(np.int64) if parts else np.zeros(0, np.int64)


def draw(lengths: np.ndarray, samples: int, seed: int = 0) -> np.ndarray:
    """Draw the indices of `samples` texts whose lengths are distributed like those of all, int64, in random order.

    Stratified sampling by length: the texts are sorted by tokens (equal ones in random order) and divided into as many runs of
    equal size as there are samples; one is drawn from each. So every quantile of the sample's lengths lies within one run
    of the same quantile of all: short, common and long texts are as frequent as in production.
    """
    rng = np.random.default_rng(seed)
    shuffled = rng.permutation(len(lengths))
    if samples >= len(lengths):
        return shuffled
    ordered = shuffled[np.argsort(lengths[shuffled], kind="stable")]
    edges = np.arange(samples + 1) * len(lengths) // samples
    return rng.permutation(ordered[rng.integers(edges[:-1], edges[1:])])


def stream_batches(encode: Encode, lines: Iterable[Text], longest: int, size: int = 64) -> Iterator[Batch]:
    """Yield all texts in their order, `size` at a time: memory does not grow with their number."""
    start = 0
    for part in _groups(lines, size):
        yield Batch(encode(part, longest), np.arange(start, start + len(part)))
        start += len(part)


def _groups(lines: Iterable[Text], size: int) -> Iterator[list[Text]]:
    source = iter(lines)
    while part := list(islice(source, size)):
        yield part


def make_batches(
    encode: Encode,
    lines: Sequence[Text],
    *,
    longest: int,
    samples: int | None = None,
    tokens: int = 512,
    most_tokens: int | None = None,
    seed: int = 0,
) -> list[Batch]:
    """Return at most `samples` texts (as `draw` chooses them) and `most_tokens` tokens in batches of about `tokens` tokens.

    `longest` is the limit of a text in tokens. Raises UsageError where there is no text.
    """
    if not lines or samples == 0:
        raise UsageError("the calibration text is empty")
    all_lengths = token_lengths(encode, lines, longest)
    chosen = draw(all_lengths, len(lines) if samples is None else samples, seed)
    lengths = all_lengths[chosen]
    if most_tokens is not None:
        count = max(1, int(np.searchsorted(np.cumsum(lengths), most_tokens, side="right")))
        chosen, lengths = chosen[:count], lengths[:count]
    texts = [lines[i] for i in chosen]
    order = np.argsort(lengths, kind="stable")
    groups = [order[span] for span in spans(lengths[order], tokens)]
    return [Batch(encode([texts[i] for i in rows], longest), chosen[rows]) for rows in groups]


def spans(lengths: Sequence[int] | np.ndarray, tokens: int) -> Iterator[slice]:
    """Yield slices of ascending `lengths` that take at most `tokens` tokens with their padding, or one text each."""
    start = 0
    while start < len(lengths):
        end = start + 1
        while end < len(lengths) and lengths[end] * (end + 1 - start) <= tokens:
            end += 1
        yield slice(start, end)
        start = end


def check_known(batches: Sequence[Batch], special: Sequence[int], unknown: int | None) -> float:
    """Return the fraction of the text's tokens that the tokenizer does not know, without special tokens.

    Raises UsageError where it is more than a quarter, or where there are only special tokens; warns from a twentieth upwards.
    """
    ignored = list({*special} - {unknown})
    ids = [b.feeds["input_ids"][b.mask] for b in batches]
    tokens = sum(int((~np.isin(i, ignored)).sum()) for i in ids)
    unknown_tokens = sum(int((i == unknown).sum()) for i in ids) if unknown is not None else 0
    if unknown_tokens == tokens:
        raise UsageError(
            "nothing of the calibration text becomes a known token: is it the right language and encoding?"
        )
    rate = unknown_tokens / tokens
    message = f"{100 * rate:.0f} % of the calibration text's tokens are unknown to the tokenizer"
    if rate > MOST_UNKNOWN:
        raise UsageError(f"{message}: is it the right language and encoding? Give text like that of production")
    if rate >= MANY_UNKNOWN:
        warnings.warn(f"{message}: is it all the right language?", HeadwayWarning, stacklevel=2)
    return rate
