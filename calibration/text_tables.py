"""Read tables of text: csv, jsonl, parquet, and folders that `datasets` wrote."""

import csv
import json
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path

from ..bulk.datasets_folder import arrow_files, batches_of, schema_of
from ..errors import UsageError

TABLES = (".csv", ".jsonl", ".ndjson", ".parquet")
_OTHER_TABLES = {".json": ".jsonl, one object a line", ".tsv": ".csv, with commas"}
"""Formats that are refused: read as plain text, their syntax and labels would pass for text."""


@dataclass(frozen=True)
class Table:
    """`names` of all columns, `texts` of those with strings, the number of rows, and the values of a column by name."""

    names: list[str]
    texts: list[str]
    count: int
    values: Callable[[str], list[object]]


def _rows(path: Path) -> Table:
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
    return Table(names, strings, len(rows), lambda name: [row.get(name) for row in rows])


def _check_columns(path: Path, rows: Sequence[Mapping[str, object]], names: Sequence[str]) -> None:
    """Raise UsageError where unquoted commas would cut texts, or another separator leaves everything in one column."""
    if None in names:
        number = next(i for i, row in enumerate(rows) if None in row)
        raise UsageError(f"{path}: row {number + 1} has more fields than the header; put texts with commas in quotes")
    if len(names) == 1 and (";" in names[0] or "\t" in names[0]):
        raise UsageError(f"{path}: the header {names[0]!r} is one column; columns are separated by commas")


def _arrow(path: Path) -> Table:
    """Open a parquet file, or the Arrow files of a folder; only the columns asked for are ever read."""
    try:
        import pyarrow as pa
        import pyarrow.parquet as pq
    except ModuleNotFoundError as error:
        raise UsageError(
            f"{path}: reading it needs pyarrow, which is not installed: pip install 'headway[data]'"
        ) from error
    if path.is_dir():
        files = arrow_files(path)
        schema = schema_of(files[0])
    else:
        schema = pq.read_schema(path)

    def table(columns: list[str]) -> pa.Table:
        if not path.is_dir():
            return pq.read_table(path, columns=columns)
        parts = [pa.Table.from_batches([b]).select(columns) for file in files for b in batches_of(file)]
        return pa.concat_tables(parts) if parts else schema.empty_table().select(columns)

    def is_text(kind: pa.DataType) -> bool:
        if pa.types.is_dictionary(kind):  # as categories are stored
            kind = kind.value_type
        return pa.types.is_string(kind) or pa.types.is_large_string(kind) or pa.types.is_string_view(kind)

    strings = [f.name for f in schema if is_text(f.type)]
    count = len(table(strings[:1] or schema.names[:1]))
    return Table(list(schema.names), strings, count, lambda name: table([name]).column(name).to_pylist())


def open_table(path: Path) -> Table | None:
    """Return the table that a file or folder holds; None where it is plain text, or standard input.

    Raises UsageError for tables in other formats, and what `readable` turns into one.
    """
    suffix = path.suffix.lower()
    if suffix in _OTHER_TABLES and not path.is_dir():
        raise UsageError(f"{path}: {suffix} is not read; save it as {_OTHER_TABLES[suffix]}")
    if str(path) == "-" or not (path.is_dir() or suffix in TABLES):
        return None
    with readable(path):
        return _arrow(path) if path.is_dir() or suffix == ".parquet" else _rows(path)


def read_columns(path: Path, wanted: Mapping[str, Sequence[str]]) -> dict[str, list[object]]:
    """Return columns of a table by the names in `wanted`, each the first of its possible names that the table has.

    Raises UsageError naming what is there where one is missing, and where the file is no table or holds no row.
    """
    table = open_table(path)
    if table is None:
        raise UsageError(
            f"{path}: plain text has no columns; give a table with {', '.join(wanted)}: csv, jsonl or parquet"
        )
    with readable(path):
        if not table.count:
            raise UsageError(f"{path}: holds no text")
        names = {key: next((n for n in possible if n in table.names), None) for key, possible in wanted.items()}
        missing = [key for key, name in names.items() if name is None]
        if missing:
            raise UsageError(f"{path}: has no column {', '.join(missing)}; found {', '.join(table.names)}")
        return {key: table.values(name) for key, name in names.items() if name is not None}


@contextmanager
def readable(path: Path) -> Iterator[None]:
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
