"""Read text to calibrate, check and measure on: the built-in lines, or the user's file."""

import csv
import hashlib
import json
import sys
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from contextlib import contextmanager, suppress
from dataclasses import dataclass
from functools import cache
from importlib.resources import files
from pathlib import Path
from typing import TypeVar

import numpy as np

from ..bulk.text_column import text_column
from ..errors import UsageError
from ..tasks import Scoring
from .labels import LABELS, columns_of, parse_labels

FORMATS = "txt, csv, jsonl, parquet, a datasets directory, or - for standard input"
_TABLES = (".csv", ".jsonl", ".ndjson", ".parquet")
_OTHER_TABLES = {".json": ".jsonl, one object a line", ".tsv": ".csv, with commas"}
"""Formats that are refused: read as plain text, their syntax and labels would pass for text."""

_MEAN_LOG_LENGTH, _SPREAD = 3.2, 0.55
"""Short production text (queries, reviews, tickets): log-normal, median 24.5 tokens, mean 28.5, a 95th percentile of 61."""


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
    """The texts of one file, each once, and their labels where it has some: what `read_labeled` returns. `name` tells it from others."""

    name: str
    texts: list[str]
    labels: np.ndarray | None = None


def read_files(
    paths: Sequence[Path], classes: Mapping[str, int], column: str | None = None, scoring: Scoring | None = None
) -> list[TextFile]:
    """Return the texts and labels of several files, each as `read_labeled` returns them.

    Raises UsageError as it does, where a file is given twice, and where some have labels and others have none.
    """
    check_distinct(paths)
    files = [
        TextFile(name, *read_labeled(path, classes, column, scoring))
        for name, path in zip(short_names(paths), paths, strict=True)
    ]
    with_labels = [path for path, file in zip(paths, files, strict=True) if file.labels is not None]
    without = [path for path, file in zip(paths, files, strict=True) if file.labels is None]
    if with_labels and without:
        raise UsageError(
            f"{without[0]}: has no labels, and {with_labels[0]} has some: label the texts of every file, or take the column out"
        )
    return files


def texts_of(files: Sequence[TextFile]) -> list[str]:
    """Return the texts of all files in their order, each once."""
    return list(dict.fromkeys(text for file in files for text in file.texts))


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


def read_columns(path: Path, wanted: Mapping[str, Sequence[str]]) -> dict[str, list[object]]:
    """Return columns of a table by the names in `wanted`, each the first of its possible names that the table has.

    Raises UsageError naming what is there where one is missing, and where the file is no table or holds no row.
    """
    if not (path.is_dir() or path.suffix.lower() in _TABLES):
        raise UsageError(
            f"{path}: plain text has no columns; give a table with {', '.join(wanted)}: csv, jsonl or parquet"
        )
    with _readable(path):
        table = _arrow(path) if path.is_dir() or path.suffix.lower() == ".parquet" else _rows(path)
        if not table.count:
            raise UsageError(f"{path}: holds no text")
        names = {key: next((n for n in possible if n in table.names), None) for key, possible in wanted.items()}
        missing = [key for key, name in names.items() if name is None]
        if missing:
            raise UsageError(f"{path}: has no column {', '.join(missing)}; found {', '.join(table.names)}")
        return {key: table.values(name) for key, name in names.items() if name is not None}


def _read(path: Path, column: str | None, label_names: Sequence[str] = LABELS) -> tuple[list[str], list[object] | None]:
    """Return all texts of a source unchanged, and their labels where it has some."""
    suffix = path.suffix.lower()
    if suffix in _OTHER_TABLES and not path.is_dir():
        raise UsageError(f"{path}: {suffix} is not read; save it as {_OTHER_TABLES[suffix]}")
    with _readable(path):
        if str(path) == "-" or not (path.is_dir() or suffix in _TABLES):
            if column is not None:
                raise UsageError(f"{path}: plain text has no columns, so {column!r} cannot be read from it")
            return list(_stdin()) if str(path) == "-" else path.read_text(encoding="utf-8-sig").splitlines(), None
        return _of_table(
            path, _arrow(path) if path.is_dir() or suffix == ".parquet" else _rows(path), column, label_names
        )


@contextmanager
def _readable(path: Path) -> Iterator[None]:
    """Turn what fails while a file is read into a UsageError that names it."""
    kind = "datasets directory" if path.is_dir() else path.suffix.lower().lstrip(".") or "text"
    try:
        yield
    except OSError as error:
        raise UsageError(f"{path}: {error.strerror or error}") from error
    except (KeyError, IndexError, TypeError, AttributeError) as error:
        # The files that describe a datasets directory hold something else.
        raise UsageError(
            f"{path}: not a {kind} that can be read ({type(error).__name__}: {error}): write it again"
        ) from error
    except (ValueError, RecursionError, csv.Error, NotImplementedError) as error:
        # pyarrow's errors are ValueErrors too.
        raise UsageError(f"{path}: cannot be read as {kind} in UTF-8 ({error})") from error


def _of_table(
    path: Path, table: "_Table", column: str | None, label_names: Sequence[str]
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


@dataclass(frozen=True)
class _Table:
    """`names` of all columns, `texts` of those with strings, the number of rows, and the values of a column by name."""

    names: list[str]
    texts: list[str]
    count: int
    values: Callable[[str], list[object]]


def _rows(path: Path) -> _Table:
    is_csv = path.suffix.lower() == ".csv"
    with path.open(encoding="utf-8-sig", newline="") as file:
        read = csv.DictReader(file, strict=True) if is_csv else (json.loads(x) for x in file if x.strip())
        rows: list[dict[str, object]] = list(read)
    if not all(isinstance(row, dict) for row in rows):
        raise UsageError(f"{path}: every line must be an object with named fields")
    names = list(dict.fromkeys(name for row in rows for name in row))
    if is_csv:
        _check_columns(path, rows, names)
    strings = [n for n in names if any(isinstance(row.get(n), str) for row in rows)]
    return _Table(names, strings, len(rows), lambda name: [row.get(name) for row in rows])


def _check_columns(path: Path, rows: Sequence[Mapping[str, object]], names: Sequence[str]) -> None:
    """Raise UsageError where unquoted commas would cut texts, or another separator leaves everything in one column."""
    if None in names:
        number = next(i for i, row in enumerate(rows) if None in row)
        raise UsageError(f"{path}: row {number + 1} has more fields than the header; put texts with commas in quotes")
    if len(names) == 1 and (";" in names[0] or "\t" in names[0]):
        raise UsageError(f"{path}: the header {names[0]!r} is one column; columns are separated by commas")


def _arrow(path: Path) -> _Table:
    """Open a parquet file, or the Arrow files of a folder; only the columns asked for are ever read."""
    try:
        import pyarrow as pa
        import pyarrow.parquet as pq
    except ModuleNotFoundError as error:
        raise UsageError(
            f"{path}: reading it needs pyarrow, which is not installed: pip install 'headway[data]'"
        ) from error
    if path.is_dir():
        files = _arrow_files(path)
        with pa.memory_map(str(files[0])) as source, pa.ipc.open_stream(source) as stream:
            schema = stream.schema
    else:
        schema = pq.read_schema(path)

    def table(columns: list[str]) -> pa.Table:
        if not path.is_dir():
            return pq.read_table(path, columns=columns)
        parts = []
        for file in files:
            with pa.memory_map(str(file)) as source, pa.ipc.open_stream(source) as stream:
                parts += [pa.Table.from_batches([b]).select(columns) for b in stream]
        return pa.concat_tables(parts) if parts else schema.empty_table().select(columns)

    def is_text(kind: pa.DataType) -> bool:
        if pa.types.is_dictionary(kind):  # as categories are stored
            kind = kind.value_type
        return pa.types.is_string(kind) or pa.types.is_large_string(kind) or pa.types.is_string_view(kind)

    strings = [f.name for f in schema if is_text(f.type)]
    count = len(table(strings[:1] or schema.names[:1]))
    return _Table(list(schema.names), strings, count, lambda name: table([name]).column(name).to_pylist())


def _arrow_files(path: Path) -> list[Path]:
    """Return the data files of a folder of `datasets`, in their order."""
    splits = path / "dataset_dict.json"
    if splits.is_file():
        names = json.loads(splits.read_text(encoding="utf-8"))["splits"]
        if len(names) > 1 and "train" not in names:
            raise UsageError(f"{path}: which split? Found {', '.join(names)}; name one, as {path / names[0]}")
        path = path / ("train" if "train" in names else names[0])
    state = path / "state.json"
    if not state.is_file():
        raise UsageError(f"{path}: not a folder that `save_to_disk` of datasets wrote (it has no state.json)")
    return [path / f["filename"] for f in json.loads(state.read_text(encoding="utf-8"))["_data_files"]]


@cache
def _stdin() -> tuple[str, ...]:
    """Read standard input, which can be read only once."""
    if sys.stdin.isatty():
        raise UsageError("-: standard input is a terminal; pipe text into the command, one per line")
    return tuple(sys.stdin.buffer.read().decode("utf-8-sig").splitlines())


def _clean(lines: Iterable[str]) -> list[str]:
    return list(dict.fromkeys(stripped for line in lines if (stripped := line.strip())))


def fingerprint(lines: Sequence[str]) -> str:
    """Return the sha256 of the lines in their order."""
    return hashlib.sha256("\n".join(lines).encode()).hexdigest()


def mixed_lengths(count: int, longest: int, seed: int = 0) -> np.ndarray:
    """Draw sequence lengths in tokens from the built-in distribution, clipped to `[3, longest]`: int64 `[count]`."""
    drawn = np.random.default_rng(seed).lognormal(_MEAN_LOG_LENGTH, _SPREAD, count)
    return np.clip(np.rint(drawn), min(3, longest), longest).astype(np.int64)
