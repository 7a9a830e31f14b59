"""Parts: whole or not there, with their counts, and joined without a change."""

from pathlib import Path

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import pytest

from headway.bulk.result_files import Counts, counts_of, join, with_answers, write_part
from headway.bulk.texts_to_columns import Answers
from headway.errors import UsageError


def answered() -> pa.Table:
    table = pa.table({"text": ["a", None, "b"]})
    columns = {
        "embedding": np.array([[1, 2], [3, 4]], np.float32),
        "score": np.array([0.5, 0.25], np.float32),
        "label": ["x", "y"],
    }
    return with_answers(table, np.array([True, False, True]), Answers(columns))  # type: ignore[arg-type]


def test_rows_without_text_have_nulls() -> None:
    rows = answered().to_pylist()
    assert rows == [
        {"text": "a", "embedding": [1, 2], "score": 0.5, "label": "x"},
        {"text": None, "embedding": None, "score": None, "label": None},
        {"text": "b", "embedding": [3, 4], "score": 0.25, "label": "y"},
    ]
    assert answered().schema.field("embedding").type == pa.list_(pa.float32(), 2)


def test_a_column_of_the_same_name_is_not_replaced() -> None:
    with pytest.raises(UsageError, match="a column 'label' already"):
        with_answers(pa.table({"label": [1]}), np.array([True]), Answers({"label": ["x"]}))


def test_parts_have_their_counts_and_are_joined(tmp_path: Path) -> None:
    parts = [tmp_path / f"part-{n}.parquet" for n in range(2)]
    for number, part in enumerate(parts):
        write_part(part, answered(), Counts(3, 2, 7 + number, 1, 0.5))
    assert counts_of(parts[1]) == Counts(3, 2, 8, 1, 0.5)
    assert sum(map(counts_of, parts), Counts()) == Counts(6, 4, 15, 2, 1.0)
    join(parts, tmp_path / "all.parquet")
    whole = pq.read_table(tmp_path / "all.parquet")
    assert whole.to_pylist() == answered().to_pylist() * 2 and not whole.schema.metadata
    assert sorted(p.name for p in tmp_path.iterdir()) == ["all.parquet", "part-0.parquet", "part-1.parquet"]


def test_columns_are_widened_and_those_that_do_not_fit_are_refused(tmp_path: Path) -> None:
    for name, values in (("a", [1]), ("b", [0.5]), ("c", [{"x": 1}])):
        write_part(tmp_path / name, pa.table({"id": values, name: values}), Counts())
    join([tmp_path / "a", tmp_path / "b"], tmp_path / "out")
    assert pq.read_table(tmp_path / "out").to_pylist() == [
        {"id": 1, "a": 1, "b": None},
        {"id": 0.5, "a": None, "b": 0.5},
    ]
    write_part(tmp_path / "d", pa.table({"id": [2**53 + 1]}), Counts())
    with pytest.raises(UsageError, match="other types in other rows"):
        join([tmp_path / "b", tmp_path / "d"], tmp_path / "out")
    with pytest.raises(UsageError, match="other types in other rows"):
        join([tmp_path / "a", tmp_path / "c"], tmp_path / "out")


def test_a_part_that_was_not_finished_is_not_there(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def full(*_: object) -> None:
        raise OSError("no room")

    monkeypatch.setattr("os.fsync", full)
    with pytest.raises(OSError, match="no room"):
        write_part(tmp_path / "part", answered(), Counts())
    assert not list(tmp_path.iterdir())
