"""Read tables whose rows hold two texts, or a query with its texts: for models that read pairs, or compare texts."""

import json
import warnings
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Literal

import numpy as np

from ..bulk.text_column import NAMES
from ..errors import HeadwayWarning, UsageError
from .text_tables import Table, open_table, readable

FIRST = ("sentence1", "text1", "text_a", "question1", "premise")
SECOND = ("sentence2", "text2", "text_b", "question2", "hypothesis")
SCORE = ("score", "scores", "similarity", "label")
QUERY = ("query", "question")
PASSAGE = ("context", "passage", "document", "text")
TEXTS = ("texts", "documents", "passages", "candidates")
RELEVANCE = ("relevance", "labels", "label", "scores")

Reading = Literal["pairs", "rankings", "parts"]
"""How a task reads such tables: pairs of equals alone; queries with their texts as well, each of them with its query; or each text by
itself."""


@dataclass(frozen=True)
class PairTable:
    """The rows of a table, a pair each. `labels` has a value for each, where there are any. `queries` is the number of each pair's
    query, int64 `[pairs]`, where the first texts are queries.
    """

    pairs: list[tuple[str, str]]
    labels: list[object] | None
    queries: np.ndarray | None

    @property
    def parts(self) -> list[str]:
        """All texts by themselves, each once, without blank ones."""
        return list(dict.fromkeys(text for pair in self.pairs for text in pair if text))


@dataclass(frozen=True)
class _Columns:
    first: str
    second: str
    is_query: bool = False

    @property
    def several(self) -> bool:
        """Whether a row may have a list of texts."""
        return self.second in TEXTS


def read_pairs(path: Path, reading: Reading, labels: Sequence[str] = ()) -> PairTable | None:
    """Return the pairs of a table, each once; None where it has no two columns that make pairs for this reading.

    Labels are in the first column of `labels` that is there, those of queries also in one of `RELEVANCE`; where no name is given, none
    are read. UsageError names the row that holds something else.
    """
    table = open_table(path)
    with readable(path):
        columns = _columns(table, reading) if table is not None and table.count else None
        if table is None or columns is None:
            return None
        rows = list(zip(table.values(columns.first), table.values(columns.second), strict=True))
        if columns.is_query and reading == "rankings" and columns.second in NAMES:
            warnings.warn(
                f"{path}: is read as pairs of {columns.first!r} and {columns.second!r}: name a `column` (--column) for single texts",
                HeadwayWarning,
                stacklevel=2,
            )
        wanted = (*RELEVANCE, *labels) if columns.is_query and labels else labels
        label = next((n for n in wanted if n in table.names), None)
        values = None if label is None else table.values(label)
    return _of_rows(path, columns, rows, values)


def _columns(table: Table, reading: Reading) -> _Columns | None:
    def pair(first: Sequence[str], second: Sequence[str]) -> tuple[str, str] | None:
        names = [next((n for n in possible if n in table.names), None) for possible in (first, second)]
        return None if None in names else (str(names[0]), str(names[1]))

    if (found := pair(FIRST, SECOND)) is not None:
        return _Columns(*found)
    if reading == "pairs":
        return None
    found = pair(QUERY, (*TEXTS, *PASSAGE))
    return None if found is None else _Columns(*found, is_query=True)


def _of_rows(
    path: Path, columns: _Columns, rows: Sequence[tuple[object, object]], values: Sequence[object] | None
) -> PairTable:
    kept: dict[tuple[str, str], object] = {}
    for number, (first, second) in enumerate(rows, 1):
        label = None if values is None else values[number - 1]
        query = _text(path, number, columns.first, first)
        seconds = _seconds(path, number, second, label) if columns.several else [(second, label)]
        for text, own in seconds:
            pair = query, _text(path, number, columns.second, text)
            if all(pair) or (any(pair) and not columns.is_query):
                kept.setdefault(pair, own)
    if not kept:
        raise UsageError(f"{path}: holds no text")
    pairs = list(kept)
    return PairTable(
        pairs, None if values is None else list(kept.values()), _queries(pairs) if columns.is_query else None
    )


def _seconds(path: Path, row: int, cell: object, label: object) -> list[tuple[object, object]]:
    """Return the texts of a query with their labels: several where its cell is a list, or JSON of one."""
    texts = cell if isinstance(cell, list) else _json_list(cell)
    if texts is None:
        return [(cell, label)]
    if label is None:
        return [(text, None) for text in texts]
    labels = as_list(path, row, label, f"a list of numbers, one for each of its {len(texts)} texts")
    if len(labels) != len(texts):
        raise UsageError(f"{path}: row {row} has {len(texts)} texts and {len(labels)} numbers")
    return list(zip(texts, labels, strict=True))


def _json_list(cell: object) -> list[Any] | None:
    if not isinstance(cell, str) or not cell.startswith("["):
        return None
    try:
        found = json.loads(cell)
    except (ValueError, RecursionError):
        return None  # a text that begins so
    return found if isinstance(found, list) else None


def _queries(pairs: Sequence[tuple[str, str]]) -> np.ndarray:
    """Return the number of each pair's query."""
    numbers = {query: number for number, query in enumerate(dict.fromkeys(query for query, _ in pairs))}
    return np.array([numbers[query] for query, _ in pairs], np.int64)


def _text(path: Path, row: int, column: str, value: object) -> str:
    if value is None:
        return ""
    if not isinstance(value, str | int | float):
        raise UsageError(f"{path}: row {row} of {column!r} is no text but a {type(value).__name__}")
    text = str(value).strip()
    try:
        text.encode()
    except UnicodeEncodeError as error:  # JSON can contain half of a surrogate pair
        raise UsageError(
            f"{path}: row {row} of {column!r} holds a lone surrogate, which no tokenizer reads ({error})"
        ) from error
    return text


def as_list(path: Path, row: int, value: object, needed: str) -> list[Any]:
    """Return a list of a table's cell; in plain strings, one of JSON, or words. UsageError says what is `needed`."""
    if isinstance(value, str):
        try:
            value = json.loads(value) if value.startswith("[") else value.split()
        except (ValueError, RecursionError) as error:
            raise UsageError(f"{path}: row {row} is no list ({error}); give {needed}") from error
    if not isinstance(value, list):
        raise UsageError(f"{path}: row {row} holds {value!r:.40}; give {needed}")
    return value


def numbers_of(path: Path, values: Sequence[object]) -> np.ndarray:
    """Return scores of a table, float64. UsageError where one is no finite number."""
    try:
        numbers = np.array([float(value) for value in values])  # type: ignore[arg-type]
    except (TypeError, ValueError) as error:
        raise UsageError(f"{path}: a score is no number ({error}): these are labels of another task") from error
    if not np.isfinite(numbers).all():
        raise UsageError(f"{path}: a score is not finite: give a number for every row")
    return numbers
