"""Text as batches of token ids for calibration: similar lengths together, little padding, a fixed order."""

from collections.abc import Callable, Sequence
from dataclasses import dataclass

import numpy as np

from ..exporter.errors import UsageError

Encode = Callable[[Sequence[str], int | None], dict[str, np.ndarray]]


@dataclass(frozen=True)
class Batch:
    """int64 `[texts, sequence]` arrays by input name, and which of the given texts they are."""

    feeds: dict[str, np.ndarray]
    rows: np.ndarray

    @property
    def mask(self) -> np.ndarray:
        """bool `[texts, sequence]`: real tokens."""
        return self.feeds["attention_mask"].astype(bool)


def make_batches(
    encode: Encode,
    lines: Sequence[str],
    *,
    longest: int,
    samples: int | None = None,
    tokens: int = 512,
    most_tokens: int | None = None,
    seed: int = 0,
) -> list[Batch]:
    """At most `samples` texts and `most_tokens` tokens, drawn with `seed`, in batches of about `tokens` tokens each.

    Raises UsageError where nothing of the text becomes a token other than special or unknown ones.
    """
    chosen = np.random.default_rng(seed).permutation(len(lines))[:samples]
    if not len(chosen):
        raise UsageError("the calibration text is empty")
    lengths = np.array([int(encode([lines[i]], longest)["attention_mask"].sum()) for i in chosen])
    if most_tokens is not None:
        fit = max(1, int(np.searchsorted(np.cumsum(lengths), most_tokens, side="right")))
        chosen, lengths = chosen[:fit], lengths[:fit]
    texts = [lines[i] for i in chosen]
    order = np.argsort(lengths, kind="stable")
    batches: list[Batch] = []
    start = 0
    while start < len(order):
        end = start + 1
        while end < len(order) and lengths[order[end]] * (end + 1 - start) <= tokens:
            end += 1
        rows = order[start:end]
        batches.append(Batch(encode([texts[i] for i in rows], longest), chosen[rows]))
        start = end
    return batches


def check_known(batches: Sequence[Batch], special: Sequence[int], unknown: int | None) -> None:
    """UsageError where every token of the text is special or unknown to the tokenizer."""
    idle = {*special, *([unknown] if unknown is not None else [])}
    if all(np.isin(b.feeds["input_ids"][b.mask], list(idle)).all() for b in batches):
        raise UsageError(
            "nothing of the calibration text becomes a known token: is it the right language and encoding?"
        )
