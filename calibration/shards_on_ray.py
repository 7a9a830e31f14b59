"""Count the shards of a corpus on a Ray cluster, and merge what was counted there, pair by pair.

Each task counts some shards, with sums that do not grow with them. What a lost node had counted is counted again by another: sums are
of integers, and each shard goes into them once, so the result is the same to the last bit.
"""

from collections.abc import Callable, Mapping
from contextlib import ExitStack
from copy import deepcopy
from dataclasses import dataclass
from hashlib import sha256
from itertools import pairwise
from pathlib import Path
from typing import Any

import numpy as np

from ..bulk.on_ray import RETRIES, connect, result_of
from ..errors import TargetError
from ..manifest import TokenizerInfo
from ..scratch import scratch
from ..text import TextEncoder
from .corpus_shards import Corpus
from .session import Session
from .shard_sums import Counting, ShardSums, count_shards

GROUPS = 4
"""Tasks for each processor: a lost or slow one costs the others little, and there are few sums to merge."""


@dataclass(frozen=True)
class Sent:
    """What every node needs beside the weights: the graph up to the observed values, and the tokenizer.

    `readers` says in words what reads each value. `version` is that of Headway here. `key` stands for what a process opens once.
    """

    graph: bytes
    readers: Mapping[str, str]
    tokenizer: bytes
    info: TokenizerInfo
    corpus: Corpus
    counting: Counting
    version: str
    key: bytes

    @classmethod
    def of(
        cls,
        graph: Path,
        weights: np.ndarray,
        readers: Mapping[str, str],
        encoder: TextEncoder,
        corpus: Corpus,
        counting: Counting,
    ) -> "Sent":
        """Read what `save_up_to` wrote to `graph`, and the encoder's tokenizer. `weights` are the bytes of the graph's weights, uint8."""
        from .. import __version__

        model, tokenizer = graph.read_bytes(), encoder.path.read_bytes()
        opened_once = model, tokenizer, repr(encoder.info).encode(), weights.data
        key = sha256(b"".join(sha256(part).digest() for part in opened_once)).digest()
        return cls(model, readers, tokenizer, encoder.info, corpus, counting, __version__, key)


def count_on_ray(
    address: str, sent: Sent, weights: np.ndarray, on_shards: Callable[[int], None] = lambda _: None
) -> ShardSums:
    """Return what was counted on all shards by the cluster at `address`; `local` starts one on this machine.

    `weights` are the bytes of the graph's weights, uint8. The corpus has to lie where every node finds it by the same path. `on_shards`
    is told how many shards have been counted. TargetError where no cluster answers, or its nodes have another Headway.
    """
    import ray

    connect(address)
    count: Any = ray.remote(num_cpus=1, max_retries=RETRIES, num_returns=2)(_count)
    merge: Any = ray.remote(num_cpus=1, max_retries=RETRIES, num_returns=2)(_merge)
    shared, data = ray.put(sent), ray.put(weights)
    running: dict[
        Any, tuple[Any, int]
    ] = {}  # by what says that a task is done: its sums, and how many shards it was the first to count
    counted, waiting = 0, list[Any]()
    try:
        for numbers in _groups(len(sent.corpus.shards), int(ray.cluster_resources().get("CPU", 1))):
            done, sums = count.remote(shared, data, numbers)
            running[done] = sums, len(numbers)
        while running or len(waiting) > 1:
            while len(waiting) > 1:
                done, sums = merge.remote(waiting.pop(), waiting.pop())
                running[done] = sums, 0
            ready, _ = ray.wait(list(running), timeout=5.0)
            for task in ready:
                result_of(task)
                sums, shards = running.pop(task)
                waiting.append(sums)
                counted += shards
                on_shards(counted)
    except BaseException:
        for task in running:
            ray.cancel(task, force=True)
        raise
    total: ShardSums = result_of(waiting[0])
    missing = set(range(len(sent.corpus.shards))) - total.shards.keys()
    if missing:
        raise TargetError(f"the cluster lost shard {min(missing)} of the corpus; run again")
    return total


def _groups(shards: int, processors: int) -> list[range]:
    """Return the numbers of the shards of each task."""
    count = min(shards, max(1, GROUPS * processors))
    edges = [shards * i // count for i in range(count + 1)]
    return [range(a, b) for a, b in pairwise(edges)]


def _count(sent: Sent, weights: np.ndarray, numbers: range) -> tuple[int, ShardSums]:
    """Count shards in a process of the cluster."""
    from .. import __version__

    if __version__ != sent.version:
        raise TargetError(
            f"a node has Headway {__version__}, and this machine {sent.version}: install the same on every node"
        )
    opened = _opened(sent, weights)
    return len(numbers), count_shards(opened.session, opened.encoder, sent.corpus, numbers, sent.counting)


def _merge(one: ShardSums, other: ShardSums) -> tuple[int, ShardSums]:
    """Merge sums in a process of the cluster, whose arguments are shared memory that nothing may be written to."""
    merged = deepcopy(one)
    merged.merge(other)
    return len(merged.shards), merged.finish()


@dataclass(frozen=True)
class _Opened:
    """What a process opened once, and the folder that its files lie in as long as the process runs."""

    session: Session
    encoder: TextEncoder
    folder: ExitStack


_OPENED: dict[bytes, _Opened] = {}
"""At most one: by a digest of what was sent."""


def _opened(sent: Sent, weights: np.ndarray) -> _Opened:
    if sent.key not in _OPENED:
        _OPENED.clear()
        kept = ExitStack()
        folder = Path(kept.enter_context(scratch()))
        path, tokenizer = folder / "model.onnx", folder / "tokenizer.json"
        path.write_bytes(sent.graph)
        weights.tofile(path.with_name(f"{path.name}.data"))
        tokenizer.write_bytes(sent.tokenizer)
        session = Session(path, sent.counting.names, sent.readers)
        _OPENED[sent.key] = _Opened(session, TextEncoder(tokenizer, sent.info), kept)
    return _OPENED[sent.key]
