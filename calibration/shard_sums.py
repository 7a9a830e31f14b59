"""Count activations shard by shard, so that shards may be counted anywhere, in any order, and more than once."""

import hashlib
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass, field

import numpy as np

from ..errors import SourceError, UsageError
from ..text import TextEncoder
from .batches import Batch
from .corpus_shards import Corpus
from .feed import Feed
from .observe import count, refusal
from .session import Session
from .sums import NotFinite, Sums

MOST_TOKENS = 1 << 32
"""Second moments are sums of integers below 2**30 in int64: so many tokens fit, whatever they are."""

_AT_ONCE = 256


@dataclass
class ShardSums:
    """What was counted on some shards. `shards`: a digest of the texts of each, by number."""

    sums: Sums
    shards: dict[int, str] = field(default_factory=dict)

    def merge(self, other: "ShardSums") -> None:
        """Add what was counted on other shards. Where all of them are in already, nothing changes.

        UsageError where a shard held other texts when it was counted again. SourceError where some of the shards are in and others are
        not, or the sums would grow beyond what is exact.
        """
        both = self.shards.keys() & other.shards.keys()
        changed = [n for n in sorted(both) if self.shards[n] != other.shards[n]]
        if changed:
            raise UsageError(
                f"shard {changed[0]} of the corpus changed while it was read; leave its files alone, and run again"
            )
        if both == other.shards.keys():
            return
        if both:
            raise SourceError(
                f"shard {min(both)} of the corpus was counted together with others that are missing; run again"
            )
        _check_exact(self.sums.tokens + other.sums.tokens)
        self.sums.merge(other.sums)
        self.shards |= other.shards

    def finish(self) -> "ShardSums":
        """Return itself without texts that wait to be summed, which would only make it larger on its way."""
        for moments in self.sums.moments.values():
            if moments is not None:
                moments.finish()
        return self

    def fingerprint(self) -> str:
        """Return the sha256 of all texts, whatever the order in which shards were counted."""
        return hashlib.sha256("\n".join(self.shards[n] for n in sorted(self.shards)).encode()).hexdigest()


@dataclass(frozen=True)
class Counting:
    """What is counted: values by name, of those in `moments` also second moments and a sample, and whether histograms."""

    values: tuple[str, ...]
    moments: frozenset[str]
    histograms: bool

    @property
    def names(self) -> list[str]:
        """All values, each once."""
        return list(dict.fromkeys([*self.values, *sorted(self.moments)]))

    def nothing(self) -> ShardSums:
        """Return sums of no text."""
        return ShardSums(Sums(self.names, self.moments, counted=self.histograms))


def count_shards(
    session: Session, encoder: TextEncoder, corpus: Corpus, numbers: Iterable[int], counting: Counting
) -> ShardSums:
    """Return what was counted on shards, by one thread. Memory does not grow with their number.

    SourceError names the row on which an activation is NaN or infinite.
    """
    total = counting.nothing()
    for number in numbers:
        rows = corpus.texts(number)
        try:
            count(session, Feed(batches_of(encoder, rows)), total.sums)
        except NotFinite as error:
            where = f"row {error.text.row + 1} of {corpus.shards[number].file}"
            raise refusal(error, session, where) from None
        _check_exact(total.sums.tokens)
        total.shards[number] = hashlib.sha256("\n".join(text for _, text in rows).encode()).hexdigest()
    return total.finish()


def _check_exact(tokens: int) -> None:
    """Raise SourceError for more tokens than sums are exact for."""
    if tokens > MOST_TOKENS:
        raise SourceError(
            f"the corpus has more than {MOST_TOKENS:,} tokens, beyond which sums are not exact: give fewer shards"
        )


def batches_of(encoder: TextEncoder, rows: Sequence[tuple[int, str]]) -> Iterator[Batch]:
    """Yield texts with the numbers of their rows as batches, cut at the model's limit."""
    for start in range(0, len(rows), _AT_ONCE):
        part = rows[start : start + _AT_ONCE]
        yield Batch(encoder([text for _, text in part]), np.array([at for at, _ in part]))
