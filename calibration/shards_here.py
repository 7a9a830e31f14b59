"""Count the shards of a corpus by threads of this process."""

import threading
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor

from ..text import TextEncoder
from .corpus_shards import Corpus
from .session import Session
from .shard_sums import Counting, ShardSums, count_shards


def count_here(
    session: Session,
    encoder: TextEncoder,
    corpus: Corpus,
    counting: Counting,
    workers: int = 1,
    on_shard: Callable[[], None] = lambda: None,
) -> ShardSums:
    """Return what was counted on all shards by `workers` threads, which share the graph. Errors are those of `count_shards`."""
    numbers = _Numbers(len(corpus.shards), on_shard)

    def work() -> ShardSums:
        try:
            return count_shards(session, encoder, corpus, numbers, counting)
        except BaseException:
            numbers.stop()
            raise

    with ThreadPoolExecutor(workers) as pool:
        first, *others = [job.result() for job in [pool.submit(work) for _ in range(workers)]]
    for other in others:
        if other.shards:
            first.merge(other)
    return first


class _Numbers:
    """Hand out numbers of shards to any number of threads. `on_shard` is called for each that is taken."""

    def __init__(self, count: int, on_shard: Callable[[], None]):
        self._left = iter(range(count))
        self._on_shard = on_shard
        self._lock = threading.Lock()

    def __iter__(self) -> Iterator[int]:
        while True:
            with self._lock:
                number = next(self._left, None)
                if number is None:
                    return
                self._on_shard()
            yield number

    def stop(self) -> None:
        """Hand out nothing more."""
        with self._lock:
            self._left = iter(range(0))
