"""Write answers beside the rows they belong to as parquet, and join such files: each appears whole or not at all."""

import json
import os
import secrets
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import asdict, dataclass, fields
from pathlib import Path
from typing import IO, Any

import numpy as np

from ..errors import UsageError
from .texts_to_columns import Answers, Column

_KEY = b"headway"


@dataclass(frozen=True)
class Counts:
    """What was read: rows, texts among them (others are null), tokens, texts that were cut; and the seconds it took."""

    rows: int = 0
    texts: int = 0
    tokens: int = 0
    truncated: int = 0
    seconds: float = 0.0

    def __add__(self, other: "Counts") -> "Counts":
        return Counts(*(getattr(self, f.name) + getattr(other, f.name) for f in fields(self)))


def with_answers(table: Any, present: np.ndarray, answers: Answers) -> Any:
    """Return a `pyarrow.Table` with the columns of answers; rows that are not `present` have nulls there.

    UsageError where the table has a column of such a name already.
    """
    import pyarrow as pa

    answers.check_free(table.column_names)
    for name, column in answers.columns.items():
        table = table.append_column(name, pa.chunked_array([_arrow(name, column, present)]))
    return table


def _arrow(name: str, column: Column, present: np.ndarray) -> Any:
    import pyarrow as pa

    if isinstance(column, list):
        values = iter(column)
        return pa.array([next(values) if here else None for here in present], _type_of(name))
    whole = np.zeros((len(present), *column.shape[1:]), column.dtype)
    whole[present] = column
    if column.ndim == 1:
        return pa.array(whole, mask=~present)
    flat = pa.array(np.ascontiguousarray(whole).reshape(-1))
    return pa.FixedSizeListArray.from_arrays(flat, column.shape[1], mask=pa.array(~present))


def _type_of(name: str) -> Any:
    """Return the type of a column of texts or lists: one that all parts share, those without any text or entity among them."""
    import pyarrow as pa

    places = [(n, pa.int64()) for n in ("start", "end")]
    entity = pa.struct([("label", pa.string()), *places, ("text", pa.string()), ("score", pa.float64())])
    types = {"entities": pa.list_(entity), "indices": pa.list_(pa.int64()), "weights": pa.list_(pa.float32())}
    return types.get(name, pa.string())


def write_part(file: Path, table: Any, counts: Counts) -> None:
    """Write a part with its counts. It has its name only once all of it is on the disk."""
    import pyarrow.parquet as pq

    told = {**(table.schema.metadata or {}), _KEY: json.dumps(asdict(counts)).encode()}
    with _whole(file) as sink:
        pq.write_table(table.replace_schema_metadata(told), sink)


@contextmanager
def _whole(file: Path) -> Iterator[IO[bytes]]:
    """Yield a file to write to that gets its name once all of it is on the disk. What is not finished is removed."""
    temporary = file.with_name(f".{file.name}.{secrets.token_hex(6)}")  # processes of two machines may have one number
    try:
        with temporary.open("wb") as sink:
            yield sink
            sink.flush()
            os.fsync(sink.fileno())
        temporary.replace(file)
    finally:
        temporary.unlink(missing_ok=True)


def is_part(file: Path) -> bool:
    """Return whether a file is a part that a run wrote."""
    import pyarrow as pa
    import pyarrow.parquet as pq

    try:
        return _KEY in (pq.read_schema(file).metadata or {})
    except (OSError, pa.ArrowException):
        return False


def counts_of(file: Path) -> Counts:
    """Return the counts of a part."""
    import pyarrow.parquet as pq

    return Counts(**json.loads((pq.read_schema(file).metadata or {})[_KEY]))


def join(parts: Sequence[Path], out: Path) -> None:
    """Write the rows of all parts into one file, which has its name only once it is whole. UsageError where columns do not fit."""
    import pyarrow as pa
    import pyarrow.parquet as pq

    try:
        schema = pa.unify_schemas([_plain(pq.read_schema(part)) for part in parts], promote_options="permissive")
        with _whole(out) as sink, pq.ParquetWriter(sink, schema) as writer:
            for part in parts:
                writer.write_table(_fitting(pq.read_table(part), schema))
    except pa.ArrowException as error:
        raise UsageError(
            f"{out}: columns of the data have other types in other rows ({error}), which one file cannot hold. The finished parts are in "
            f"{parts[0].parent}"
        ) from error


def _plain(schema: Any) -> Any:
    metadata: Mapping[bytes, bytes] = schema.metadata or {}
    return schema.with_metadata({k: v for k, v in metadata.items() if k != _KEY} or None)


def _fitting(table: Any, schema: Any) -> Any:
    import pyarrow as pa

    columns = [
        table.column(f.name).cast(f.type) if f.name in table.column_names else pa.nulls(table.num_rows, f.type)
        for f in schema
    ]
    return pa.table(columns, schema=schema)
