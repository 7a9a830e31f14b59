"""Read a corpus in shards: texts of files that are larger than memory, each shard by itself and on any machine."""

import hashlib
from collections import Counter
from collections.abc import Collection, Sequence
from dataclasses import dataclass
from importlib.util import find_spec
from pathlib import Path
from platform import node

from ..bulk.shards import Shard, files_of, names_of, read_shard, shards_of, state_of, texts_of
from ..bulk.text_column import text_column
from ..errors import UsageError
from .labels import LABELS

ROWS = 8192
"""Rows of a shard: some seconds of work."""


@dataclass(frozen=True)
class Corpus:
    """Files of text, in shards. `columns` and `states` (size and time of change) are those of each shard's file.

    `left_out` are digests of texts that nothing may be learned from.
    """

    shards: tuple[Shard, ...]
    columns: tuple[str, ...]
    states: tuple[tuple[int, int], ...]
    left_out: frozenset[bytes] = frozenset()

    def texts(self, number: int) -> list[tuple[int, str]]:
        """Return the rows of a shard that hold text, with their numbers in the file: each as often as it stands there.

        UsageError where the file is not what it was when it was split, or a row holds something else than text.
        """
        shard = self.shards[number]
        if not shard.file.is_file():
            raise UsageError(
                f"{shard.file}: is not there on {node()}: the corpus has to lie on every node by the same path"
            )
        if state_of(shard.file) != self.states[number]:
            raise UsageError(
                f"{shard.file}: is another file on {node()} than when the corpus was split, by its size or time: leave the files alone, "
                "and have one file system for all nodes"
            )
        texts = texts_of(read_shard(shard), shard, self.columns[number])
        rows = ((at, (text or "").strip()) for at, text in enumerate(texts, shard.start))
        return [(at, text) for at, text in rows if text and not self._is_left_out(text)]

    def _is_left_out(self, text: str) -> bool:
        """Return whether a text is left out, or a line of it: other readers of text files take more characters for the end of a line."""
        return any(digest_of(part) in self.left_out for part in (text, *text.splitlines()))


def open_corpus(
    paths: Sequence[Path], column: str | None = None, *, left_out: Collection[str] = (), rows: int = ROWS
) -> Corpus:
    """Return the shards of files and directories of text, and the column of each that holds it.

    UsageError names a path that is missing, of another format, without text, or given twice.
    """
    if find_spec("pyarrow") is None:
        raise UsageError(
            f"{paths[0]}: reading shards needs pyarrow, which is not installed: pip install 'headway[data]'"
        )
    files = [file.resolve() for path in paths for file in files_of(path)]
    repeated = next((file for file, count in Counter(files).items() if count > 1), None)
    if repeated is not None:
        raise UsageError(f"{repeated}: is given twice: give each file of `shards` once")
    shards: list[Shard] = []
    columns: list[str] = []
    states: list[tuple[int, int]] = []
    for file in files:
        parts = shards_of([file], rows)
        if not parts:
            raise UsageError(f"{file}: holds no text")
        names, texts = names_of(file, column)
        shards += parts
        states += [state_of(file)] * len(parts)
        columns += [text_column(file, names, [n for n in texts if n not in LABELS], column)] * len(parts)
    return Corpus(tuple(shards), tuple(columns), tuple(states), frozenset(map(digest_of, left_out)))


def digest_of(text: str) -> bytes:
    """Return 16 bytes that stand for a text."""
    return hashlib.blake2b(text.strip().encode("utf-8", "surrogatepass"), digest_size=16).digest()
