"""Split files of text into shards of so many rows, each of which can be read by itself: by another process, or after a restart.

Rows of a parquet file are found by its own index. Of the other formats one pass over the bytes finds where each shard begins.
"""

import csv
import io
import json
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from functools import lru_cache
from pathlib import Path
from typing import Any

from ..errors import UsageError
from .datasets_folder import SUFFIX, arrow_files, batches_of, is_datasets_folder, schema_of

TABLES = (".parquet", ".csv", ".jsonl", ".ndjson", ".txt")
_FIRST = 100
"""Rows whose columns are looked at."""

_LARGEST_FIELD = 1 << 30
"""Characters of a field of CSV; the library's own limit is 128 thousand."""

_SPACE = " \t\r\f\v"
"""What a line of JSON may consist of and be none: as bytes know it, so that lines are counted as they are read."""

_ONLY = "text"
"""The column of a file of plain text."""


@dataclass(frozen=True)
class Shard:
    """Rows `start` to `start + rows` of a file. Of a file that is no parquet, they lie in `size` bytes from `offset` on."""

    file: Path
    start: int
    rows: int
    offset: int = 0
    size: int = 0


def files_of(path: Path) -> list[Path]:
    """Return the files of a directory that hold tables, by name, or the file itself; of a folder of `datasets`, those of its list.

    UsageError where there is none, or two kinds.
    """
    if not path.is_dir():
        if path.suffix.lower() not in TABLES:
            raise UsageError(
                f"{path}: {path.suffix or 'a file without a suffix'} is not read; give {', '.join(TABLES)}"
            )
        if not path.is_file():
            raise UsageError(f"{path}: no such file")
        return [path]
    if is_datasets_folder(path):
        return _listed(path)
    files = sorted(p for p in path.iterdir() if p.suffix.lower() in TABLES and not p.name.startswith((".", "_")))
    kinds = {p.suffix.lower() for p in files}
    if len(kinds) != 1:
        found = f"files of {', '.join(sorted(kinds))}" if kinds else "no file"
        raise UsageError(f"{path}: holds {found}; a directory of files of one kind is expected: {', '.join(TABLES)}")
    return files


def _listed(folder: Path) -> list[Path]:
    try:
        files = arrow_files(folder)
    except (OSError, ValueError, LookupError, TypeError) as error:
        raise UsageError(f"{folder}: not a folder of datasets that can be read ({error}): save it again") from error
    if not files:
        raise UsageError(f"{folder}: its state.json lists no file: save it again")
    missing = next((file for file in files if file.suffix != SUFFIX or not file.is_file()), None)
    if missing is not None:
        raise UsageError(f"{folder}: lists {missing.name}, and there is no such Arrow file: save it again")
    return files


def shards_of(files: Sequence[Path], rows: int) -> list[Shard]:
    """Return the shards of files, in order, each of at most `rows` rows. UsageError names a file that cannot be read."""
    shards: list[Shard] = []
    for file in files:
        try:
            if file.suffix.lower() in (".parquet", SUFFIX):
                count = _rows_of(file)
                shards += [Shard(file, at, min(rows, count - at)) for at in range(0, count, rows)]
            else:
                shards += _by_bytes(file, rows)
        except (OSError, ValueError, csv.Error) as error:  # pyarrow's errors are ValueErrors, and so are those of UTF-8
            raise UsageError(f"{file}: cannot be read ({error})") from error
    return shards


def names_of(file: Path, wanted: str | None = None) -> tuple[list[str], list[str]]:
    """Return the names of all columns of a file, and of those that hold strings.

    Of a `.jsonl` file they are those of its first rows, up to the first that has `wanted`.
    """
    import pyarrow as pa

    if file.suffix.lower() == ".parquet":
        schema = _parquet(file).schema_arrow
    elif file.suffix == SUFFIX:
        schema = schema_of(file)
    else:
        schema = pa.schema([(_ONLY, pa.string())])
        for shard in shards_of([file], _FIRST):
            schema = read_shard(shard).schema
            if wanted is None or wanted in schema.names or not may_lack(file):
                break
    strings = (pa.types.is_string, pa.types.is_large_string, pa.types.is_string_view)

    def holds_text(kind: Any) -> bool:
        kind = kind.value_type if pa.types.is_dictionary(kind) else kind
        return any(matches(kind) for matches in strings)

    return list(schema.names), [field.name for field in schema if holds_text(field.type)]


def may_lack(file: Path) -> bool:
    """Return whether rows of a file may lack a column that others have."""
    return file.suffix.lower() in (".jsonl", ".ndjson")


def read_shard(shard: Shard) -> Any:
    """Return the rows of a shard as a `pyarrow.Table`. UsageError where the file is not what it was when it was split."""
    import pyarrow as pa

    kind = shard.file.suffix.lower()
    try:
        if kind == ".parquet":
            table = _read_parquet(shard)
        elif kind == SUFFIX:
            table = _read_arrow(shard)
        else:
            with shard.file.open("rb") as file:
                file.seek(shard.offset)
                text = file.read(shard.size).decode("utf-8")
            table = _TO_TABLE[kind](text, shard.file)
    except (OSError, ValueError, OverflowError, RecursionError, csv.Error, pa.ArrowException) as error:
        raise UsageError(f"{shard.file}: rows {shard.start + 1} to {shard.start + shard.rows}: {error}") from error
    if table.num_rows != shard.rows:
        raise UsageError(f"{shard.file}: has changed since it was split; run again with --force")
    return table


def texts_of(table: Any, shard: Shard, column: str) -> list[str | None]:
    """Return the texts in the rows of a shard, None where a row has none.

    UsageError for a column that is missing, or that holds something else.
    """
    if column in table.column_names:
        texts: list[str | None] = table.column(column).to_pylist()
    elif may_lack(shard.file):
        texts = [None] * table.num_rows
    else:
        raise UsageError(f"{shard.file}: there is no column {column!r}; found {', '.join(table.column_names)}")
    odd = next((i for i, text in enumerate(texts) if text is not None and not isinstance(text, str)), None)
    if odd is not None:
        raise UsageError(
            f"{shard.file}: row {shard.start + odd + 1} of {column!r} is no text but a {type(texts[odd]).__name__}: name another "
            "`column` (--column)"
        )
    return texts


def state_of(file: Path) -> tuple[int, int]:
    """Return the size and the time of change of a file, by which it is told whether it is still the same."""
    about = file.stat()
    return about.st_size, about.st_mtime_ns


def _rows_of(file: Path) -> int:
    if file.suffix == SUFFIX:
        return sum(batch.num_rows for batch in batches_of(file))
    return int(_parquet(file).metadata.num_rows)


def _read_arrow(shard: Shard) -> Any:
    import pyarrow as pa

    first, parts = 0, []
    for batch in batches_of(shard.file):
        begin, end = max(shard.start - first, 0), min(shard.start + shard.rows - first, batch.num_rows)
        if begin < end:
            parts.append(batch.slice(begin, end - begin))
        first += batch.num_rows
        if first >= shard.start + shard.rows:
            break
    return pa.Table.from_batches(parts, schema_of(shard.file))


def _parquet(file: Path) -> Any:
    import pyarrow.parquet as pq

    return pq.ParquetFile(file)


def _read_parquet(shard: Shard) -> Any:
    import pyarrow as pa

    opened = _parquet(shard.file)
    changed = shard.file.stat().st_mtime_ns
    first, parts = 0, []
    for group in range(opened.num_row_groups):
        count = opened.metadata.row_group(group).num_rows
        begin, end = max(shard.start - first, 0), min(shard.start + shard.rows - first, count)
        if begin < end:
            parts.append(_group(shard.file, changed, group).slice(begin, end - begin))
        first += count
    return pa.concat_tables(parts) if parts else opened.schema_arrow.empty_table()


@lru_cache(maxsize=1)
def _group(file: Path, changed: int, group: int) -> Any:
    """Return a group of rows, which may be those of a hundred shards. `changed` is the file's time."""
    return _parquet(file).read_row_group(group)


def _by_bytes(file: Path, rows: int) -> Iterator[Shard]:
    """Yield the shards of a file of lines, or of rows of CSV, whose quoted texts may hold line breaks."""
    at = row = 0
    began = (0, 0)
    for size, counts in _sizes(file):
        if row - began[1] == rows:
            yield Shard(file, began[1], rows, began[0], at - began[0])
            began = (at, row)
        if row == began[1] and not counts:
            began = (at + size, row)  # a mark of UTF-8 or a header stands before the first row
        at, row = at + size, row + counts
    if row > began[1]:
        yield Shard(file, began[1], row - began[1], began[0], at - began[0])


def _sizes(file: Path) -> Iterator[tuple[int, int]]:
    """Yield the bytes of each row, and whether it counts as one."""
    if file.suffix.lower() == ".csv":
        yield from _sizes_of_csv(file)
        return
    plain = file.suffix.lower() == ".txt"
    with file.open("rb") as lines:
        for number, line in enumerate(lines):
            if number == 0 and line.startswith(b"\xef\xbb\xbf"):
                yield 3, 0
                line = line[3:]
            yield len(line), int(plain or bool(line.strip()))


def _sizes_of_csv(file: Path) -> Iterator[tuple[int, int]]:
    read = 0
    csv.field_size_limit(_LARGEST_FIELD)

    def lines() -> Iterator[str]:
        nonlocal read
        with file.open("rb") as opened:
            for line in opened:
                read += len(line)
                yield line.decode("utf-8-sig" if read == len(line) else "utf-8")

    before, width = 0, 0
    for number, fields in enumerate(csv.reader(lines(), strict=True)):
        width = width or len(fields)
        if fields and len(fields) != width:
            raise ValueError(
                f"row {number} has {len(fields)} fields, and the header {width}; put texts with commas in quotes"
            )
        yield read - before, int(number > 0 and bool(fields))
        before = read


def _of_csv(text: str, file: Path) -> Any:
    import pyarrow as pa

    csv.field_size_limit(_LARGEST_FIELD)
    with file.open(encoding="utf-8-sig", newline="") as opened:
        header = next(csv.reader(opened, strict=True), [])
    if len(set(header)) < len(header):
        raise ValueError("two columns of the header have one name")
    rows = [fields for fields in csv.reader(io.StringIO(text, newline=""), strict=True) if fields]
    columns = list(zip(*rows, strict=True)) if rows else [()] * len(header)
    return pa.table({name: pa.array(values, pa.string()) for name, values in zip(header, columns, strict=True)})


def _of_json(text: str, _: Path) -> Any:
    import pyarrow as pa

    rows = [json.loads(line) for line in text.split("\n") if line.strip(_SPACE)]
    if not all(isinstance(row, dict) for row in rows):
        raise ValueError("every line must be an object with named fields")
    names = dict.fromkeys(name for row in rows for name in row)
    return pa.table({name: pa.array([row.get(name) for row in rows]) for name in names})


def _of_lines(text: str, _: Path) -> Any:
    import pyarrow as pa

    lines = text.split("\n")
    return pa.table(
        {_ONLY: pa.array([line.removesuffix("\r") for line in lines[: len(lines) - (lines[-1] == "")]], pa.string())}
    )


_TO_TABLE = {".csv": _of_csv, ".jsonl": _of_json, ".ndjson": _of_json, ".txt": _of_lines}
