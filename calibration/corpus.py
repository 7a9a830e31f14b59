"""Read text to calibrate, check and measure on: the built-in lines, or the user's file."""

import hashlib
import sys
from collections.abc import Iterable, Mapping, Sequence
from contextlib import suppress
from dataclasses import dataclass
from functools import cache
from importlib.resources import files
from pathlib import Path
from typing import TypeVar

import numpy as np

from ..bulk.text_column import text_column
from ..errors import UsageError
from ..tasks import Scoring
from ..text import Text
from .labels import LABELS, columns_of, parse_labels, parse_relevance
from .text_pairs import Reading, read_pairs
from .text_tables import Table, open_table, readable

FORMATS = "txt, csv, jsonl, parquet, a datasets directory, or - for standard input"

_MEAN_LOG_LENGTH, _SPREAD = 3.2, 0.55
"""Short production text (queries, reviews, tickets): log-normal, median 24.5 tokens, mean 28.5, a 95th percentile of 61."""

_DIVIDER = "\x1f"

Given = TypeVar("Given", Path, Sequence[Path])


def builtin_lines() -> list[str]:
    """Return about ninety original lines of 1 to 150 words in two dozen languages, some with code, numbers, links or emoji."""
    return _clean(files(__package__).joinpath("parity.txt").read_text(encoding="utf-8").splitlines())


def required(data: Given | None, what: str) -> Given:
    """Return the text that `what` learns from; UsageError says how to give it where there is none."""
    if not data:
        raise UsageError(
            f"{what} learns from text: give --data FILE ({FORMATS}), or `data:` in the recipe: a few hundred lines like those "
            "of production. Random tokens would not do"
        )
    return data


def lines_or_builtin(data: Path | None, column: str | None = None) -> list[str]:
    """Return the texts of a file, as `read_lines` does, or the built-in ones. UsageError for a column of no file."""
    check_column(column, data)
    return read_lines(data, column) if data else builtin_lines()


def check_column(column: str | None, data: Path | Sequence[Path] | None) -> None:
    """Raise UsageError where a column is named, and no file that it could be in."""
    if column is not None and not data:
        raise UsageError(f"column {column!r} is one of data, and no data is given: give `data` (--data) with it")


def read_lines(path: Path, column: str | None = None) -> list[str]:
    """Return the texts of a file or folder in their order, without blank ones and repeats.

    `.txt` (or any other ending) has one per line. `.csv`, `.jsonl` and `.parquet` are tables, as is a folder written by
    `save_to_disk` of `datasets` (of several splits, `train`). `-` is standard input, one per line. Of a table, `column` is read;
    where none is named, `text` (or sentence, content, review, document), or its only text column. Raises UsageError naming the
    file where it is missing, not UTF-8, empty, or has no such column.
    """
    return _clean_or_refuse(path, _read(path, column)[0])


def read_labeled(
    path: Path, classes: Mapping[str, int], column: str | None = None, scoring: Scoring | None = None
) -> tuple[list[str], np.ndarray | None]:
    """Return texts as `read_lines` does, and their labels where the table has a column `label` (or labels, class, target).

    Labels are class numbers, or names in `classes`: int64 `[texts]`. Where several may hold, or the model gives values (which may be
    called score, too), `scoring` says so, and they are float32 `[texts, classes]`. None where there is no such column or
    `classes` is empty. UsageError names a label that does not fit the model.
    """
    lines, labels = _read(path, column, columns_of(scoring))
    texts = _clean_or_refuse(path, lines)
    if not classes or labels is None:
        return texts, None
    parsed = parse_labels(path, labels, classes, scoring)
    first: dict[str, int] = {}
    for row, text in enumerate(lines):
        first.setdefault(text.strip(), row)
    return texts, parsed[[first[t] for t in texts]]


@dataclass(frozen=True)
class TextFile:
    """The texts or pairs of one file, each once, and their labels where it has some. `name` tells it from others.

    `queries`: where pairs are queries with their texts, the number of each pair's query, int64 `[texts]`.
    """

    name: str
    texts: Sequence[Text]
    labels: np.ndarray | None = None
    queries: np.ndarray | None = None


def read_files(
    paths: Sequence[Path],
    classes: Mapping[str, int],
    column: str | None = None,
    scoring: Scoring | None = None,
    reading: Reading | None = None,
) -> list[TextFile]:
    """Return the texts and labels of several files, each as `read_labeled` returns them.

    `reading` says how tables of two texts a row are read, unless `column` names one of them; without it one column is
    read, as of other tables.
    Raises UsageError as `read_labeled` does, where a file is given twice, and where some have labels and others have none.
    """
    check_distinct(paths)
    files = [
        read_file(name, path, classes, column, scoring, reading)
        for name, path in zip(short_names(paths), paths, strict=True)
    ]
    with_labels = [path for path, file in zip(paths, files, strict=True) if file.labels is not None]
    without = [path for path, file in zip(paths, files, strict=True) if file.labels is None]
    if with_labels and without:
        raise UsageError(
            f"{without[0]}: has no labels, and {with_labels[0]} has some: label the texts of every file, or take the column out"
        )
    return files


def read_file(
    name: str,
    path: Path,
    classes: Mapping[str, int],
    column: str | None,
    scoring: Scoring | None,
    reading: Reading | None,
) -> TextFile:
    """Return the texts and labels of one file; see `read_files`."""
    labels = columns_of(scoring) if classes else ()
    table = read_pairs(path, reading, labels) if reading is not None and column is None else None
    if table is None:
        return TextFile(name, *read_labeled(path, classes, column, scoring))
    if reading == "parts":
        return TextFile(name, table.parts)
    if table.labels is None:
        return TextFile(name, table.pairs, queries=table.queries)
    if table.queries is not None and reading == "rankings":
        return TextFile(name, table.pairs, parse_relevance(path, table.labels), table.queries)
    return TextFile(name, table.pairs, parse_labels(path, table.labels, classes, scoring), table.queries)


def texts_of(files: Sequence[TextFile]) -> list[str]:
    """Return the texts of all files in their order, each once; of pairs, both texts by themselves."""
    return parts_of([text for file in files for text in file.texts])


def parts_of(texts: Sequence[Text]) -> list[str]:
    """Return single texts, and those of pairs by themselves, each once, without blank ones."""
    parts = ((text,) if isinstance(text, str) else text for text in texts)
    return list(dict.fromkeys(text for several in parts for text in several if text))


def check_distinct(paths: Sequence[Path]) -> None:
    """Raise UsageError where a file is given twice, be it by two names."""
    seen: dict[Path, Path] = {}
    for path in paths:
        place = path
        if str(path) != "-":
            with suppress(OSError, ValueError, RuntimeError):  # no file has such a name: whoever reads it says so
                place = path.resolve()
        if place in seen:
            also = f", as {seen[place]} too" if seen[place] != path else ""
            raise UsageError(f"{path}: is given twice{also}: give each file of `data` (--data) once")
        seen[place] = path


def short_names(paths: Sequence[Path]) -> list[str]:
    """Return names that tell paths apart: the last part of each, or as many parts as it takes."""

    def ending(path: Path, count: int) -> str:
        return "/".join(path.parts[-count:])

    names = []
    for path in paths:
        others = [other for other in paths if other != path]
        enough = (n for n in range(1, len(path.parts)) if ending(path, n) not in {ending(o, n) for o in others})
        names.append(ending(path, next(enough, len(path.parts))))
    return names


def fingerprint_of(files: Sequence[TextFile]) -> str:
    """Return the sha256 of the texts of a file, or of those of several files one by one."""
    each = [fingerprint(file.texts) for file in files]
    return each[0] if len(each) == 1 else fingerprint(each)


def _clean_or_refuse(path: Path, lines: Iterable[str]) -> list[str]:
    cleaned = _clean(lines)
    if not cleaned:
        raise UsageError(f"{path}: holds no text")
    try:
        "\n".join(cleaned).encode()
    except UnicodeEncodeError as error:  # JSON can contain half of a surrogate pair
        raise UsageError(f"{path}: holds a lone surrogate, which no tokenizer reads ({error})") from error
    return cleaned


def _read(path: Path, column: str | None, label_names: Sequence[str] = LABELS) -> tuple[list[str], list[object] | None]:
    """Return all texts of a source unchanged, and their labels where it has some."""
    table = open_table(path)
    with readable(path):
        if table is not None:
            return _of_table(path, table, column, label_names)
        if column is not None:
            raise UsageError(f"{path}: plain text has no columns, so {column!r} cannot be read from it")
        return list(_stdin()) if str(path) == "-" else path.read_text(encoding="utf-8-sig").splitlines(), None


def _of_table(
    path: Path, table: Table, column: str | None, label_names: Sequence[str]
) -> tuple[list[str], list[object] | None]:
    if not table.count:
        return [], None
    label = next((n for n in label_names if n in table.names and n != column), None)
    name = text_column(path, table.names, [n for n in table.texts if n not in LABELS], column)
    values = table.values(name)
    odd = next((i for i, v in enumerate(values) if v is not None and not isinstance(v, str | int | float)), None)
    if odd is not None:
        raise UsageError(
            f"{path}: row {odd + 1} of {name!r} is no text but a {type(values[odd]).__name__}: name another `column` (--column)"
        )
    return ["" if v is None else str(v) for v in values], table.values(label) if label is not None else None


@cache
def _stdin() -> tuple[str, ...]:
    """Read standard input, which can be read only once."""
    if sys.stdin.isatty():
        raise UsageError("-: standard input is a terminal; pipe text into the command, one per line")
    return tuple(sys.stdin.buffer.read().decode("utf-8-sig").splitlines())


def _clean(lines: Iterable[str]) -> list[str]:
    return list(dict.fromkeys(stripped for line in lines if (stripped := line.strip())))


def fingerprint(texts: Sequence[Text]) -> str:
    """Return the sha256 of the texts in their order, one a line; those of a pair are divided by a character that no text file has."""
    lines = (text if isinstance(text, str) else _DIVIDER.join(text) for text in texts)
    return hashlib.sha256("\n".join(lines).encode()).hexdigest()


def mixed_lengths(count: int, longest: int, seed: int = 0) -> np.ndarray:
    """Draw sequence lengths in tokens from the built-in distribution, clipped to `[3, longest]`: int64 `[count]`."""
    drawn = np.random.default_rng(seed).lognormal(_MEAN_LOG_LENGTH, _SPREAD, count)
    return np.clip(np.rint(drawn), min(3, longest), longest).astype(np.int64)
