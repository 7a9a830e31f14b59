"""Shards: each is read by itself, and together they are all rows in order, whatever is in the texts."""

import csv
import json
from pathlib import Path

import pyarrow as pa
import pyarrow.parquet as pq
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from headway.bulk.shards import Shard, files_of, names_of, read_shard, shards_of
from headway.errors import UsageError

TEXTS = ["rain", "", 'a "quoted"\nline, and more', "Äpfel\u2028and pears", "bread\r\nand salt", " "]


def write(file: Path, texts: list[str]) -> Path:
    rows = [{"id": str(i), "text": text} for i, text in enumerate(texts)]
    if file.suffix == ".parquet":
        pq.write_table(pa.Table.from_pylist(rows), file, row_group_size=4)
    elif file.suffix == ".csv":
        with file.open("w", encoding="utf-8-sig", newline="") as opened:
            writer = csv.DictWriter(opened, ["id", "text"])
            writer.writeheader()
            writer.writerows(rows)
    elif file.suffix == ".txt":
        file.write_text("".join(f"{text}\n" for text in texts), encoding="utf-8", newline="")
    else:
        file.write_text(
            "".join(json.dumps(row, ensure_ascii=False) + "\n" for row in rows), encoding="utf-8", newline=""
        )
    return file


def texts_in(shards: list[Shard]) -> list[str]:
    return [text for shard in reversed(shards[::-1]) for text in read_shard(shard).column("text").to_pylist()]


@pytest.mark.parametrize("suffix", [".parquet", ".csv", ".jsonl", ".ndjson"])
@pytest.mark.parametrize("rows", [1, 2, 3, 5, 6, 100])
def test_shards_are_all_rows_in_order(tmp_path: Path, suffix: str, rows: int) -> None:
    shards = shards_of([write(tmp_path / f"a{suffix}", TEXTS), write(tmp_path / f"b{suffix}", TEXTS[:3])], rows)
    assert all(shard.rows <= rows for shard in shards)
    assert texts_in(shards) == TEXTS + TEXTS[:3]
    assert [s.start for s in shards if s.file.stem == "a"] == list(range(0, 6, rows))


def test_lines_are_rows_empty_ones_too(tmp_path: Path) -> None:
    file = tmp_path / "a.txt"
    file.write_bytes("\ufeffrain\n\nbread\u2028and salt\r\nlast".encode())
    shards = shards_of([file], 2)
    assert texts_in(shards) == ["rain", "", "bread\u2028and salt", "last"] and len(shards) == 2
    assert names_of(file) == (["text"], ["text"])


@settings(max_examples=60, deadline=None)
@given(
    texts=st.lists(
        st.text(st.characters(exclude_categories=["Cs"], exclude_characters="\x00"), max_size=8), max_size=9
    ),
    rows=st.integers(1, 4),
)
def test_any_texts_come_back(tmp_path_factory: pytest.TempPathFactory, texts: list[str], rows: int) -> None:
    folder = tmp_path_factory.mktemp("texts")
    for suffix in (".csv", ".jsonl", ".parquet"):
        file = write(folder / f"a{suffix}", texts)
        shards = shards_of([file], rows)
        assert texts_in(shards) == texts, suffix
        assert sum(s.rows for s in shards) == len(texts)


def test_long_texts_of_csv(tmp_path: Path) -> None:
    file = write(tmp_path / "a.csv", ["x" * 200_000, "y"])
    assert [len(t) for t in texts_in(shards_of([file], 1))] == [200_000, 1]


def test_columns_that_rows_lack_are_null(tmp_path: Path) -> None:
    file = tmp_path / "a.jsonl"
    file.write_text('{"text": "rain"}\n\n{"text": null, "id": 3}\n')
    (shard,) = shards_of([file], 10)
    assert read_shard(shard).to_pylist() == [{"text": "rain", "id": None}, {"text": None, "id": 3}]
    assert names_of(file) == (["text", "id"], ["text"])


def test_a_directory_is_its_files_by_name(tmp_path: Path) -> None:
    for name in ("b.csv", "a.csv", "_hidden.csv", ".part.csv"):
        write(tmp_path / name, TEXTS)
    assert [f.name for f in files_of(tmp_path)] == ["a.csv", "b.csv"]
    write(tmp_path / "c.parquet", TEXTS)
    with pytest.raises(UsageError, match=r"files of \.csv, \.parquet"):
        files_of(tmp_path)


@pytest.mark.parametrize(
    ("name", "content", "says"),
    [
        ("a.csv", b"id,text\n1,one, two\n", "row 1 has 3 fields, and the header 2"),
        ("a.csv", b'id,text\n1,"open\n', "cannot be read"),
        ("a.csv", b"text,text\n1,2\n", "one name"),
        ("a.jsonl", b'{"text": "rain"}\n[1]\n', "rows 1 to 2: every line must be an object"),
        ("a.jsonl", b'{"text": "rain"\n', "rows 1 to 1: Expecting"),
        ("a.jsonl", b'{"text": "\xff"}\n', "rows 1 to 1: 'utf-8'"),
        ("a.jsonl", b'{"text": 1}\n{"text": "a"}\n', "rows 1 to 2"),
        ("a.jsonl", b'{"id": 99999999999999999999999}\n', "rows 1 to 1"),
        ("a.jsonl", b'{"id": ' + b"[" * 100_000, "rows 1 to 1"),
        ("a.jsonl", "\xa0\n".encode(), "rows 1 to 1: Expecting"),
        ("a.parquet", b"PAR1 no", "cannot be read"),
        ("a.json", b"[]", r"\.json is not read"),
        ("none.csv", None, "no such file"),
    ],
)
def test_files_that_cannot_be_read_are_named(tmp_path: Path, name: str, content: bytes | None, says: str) -> None:
    file = tmp_path / name
    if content is not None:
        file.write_bytes(content)
    with pytest.raises(UsageError, match=says) as error:
        for shard in shards_of(files_of(file), 100):
            read_shard(shard)
    assert name in str(error.value)


def test_a_file_that_changed_is_noticed(tmp_path: Path) -> None:
    file = write(tmp_path / "a.jsonl", TEXTS)
    shards = shards_of([file], 3)
    write(file, TEXTS[:4])
    with pytest.raises(UsageError, match="changed since it was split"):
        read_shard(shards[1])


def save_to_disk(folder: Path, *parts: list[str]) -> Path:
    """Write a folder as `datasets` does: an Arrow file for each of `parts`, in batches of two rows."""
    folder.mkdir(parents=True)
    names = [f"data-{i:05d}-of-{len(parts):05d}.arrow" for i in range(len(parts))]
    for name, texts in zip(names, parts, strict=True):
        table = pa.table({"id": range(len(texts)), "text": texts})
        with pa.OSFile(str(folder / name), "wb") as out, pa.ipc.new_stream(out, table.schema) as stream:
            stream.write_table(table, max_chunksize=2)
    (folder / "state.json").write_text(json.dumps({"_data_files": [{"filename": name} for name in names]}))
    return folder


@pytest.mark.parametrize("rows", [1, 2, 3, 5, 100])
def test_folders_of_datasets_are_read_in_shards(tmp_path: Path, rows: int) -> None:
    folder = save_to_disk(tmp_path / "saved", TEXTS, TEXTS[:3])
    files = files_of(folder)
    assert [file.name for file in files] == ["data-00000-of-00002.arrow", "data-00001-of-00002.arrow"]
    shards = shards_of(files, rows)
    assert all(shard.rows <= rows for shard in shards) and texts_in(shards) == TEXTS + TEXTS[:3]
    assert names_of(files[0]) == (["id", "text"], ["text"])


def test_of_several_splits_the_one_to_train_on_is_read(tmp_path: Path) -> None:
    save_to_disk(tmp_path / "all" / "train", ["a"])
    save_to_disk(tmp_path / "all" / "test", ["b"])
    (tmp_path / "all" / "dataset_dict.json").write_text(json.dumps({"splits": ["train", "test"]}))
    assert texts_in(shards_of(files_of(tmp_path / "all"), 9)) == ["a"]
    (tmp_path / "all" / "dataset_dict.json").write_text(json.dumps({"splits": ["dev", "test"]}))
    with pytest.raises(UsageError, match="which split"):
        files_of(tmp_path / "all")


@pytest.mark.parametrize(
    "state",
    [
        '["_data_files"]',
        '{"_data_files": 3}',
        '{"_data_files"',
        '{"_data_files": [{"filename": "gone.arrow"}]}',
        '{"_data_files": []}',
    ],
)
def test_a_damaged_folder_of_datasets_is_told(tmp_path: Path, state: str) -> None:
    (tmp_path / "state.json").write_text(state)
    with pytest.raises(UsageError, match="save it again"):
        files_of(tmp_path)


def test_a_state_of_another_tool_beside_tables_is_none_of_datasets(tmp_path: Path) -> None:
    (tmp_path / "state.json").write_text("{}")
    file = write(tmp_path / "a.csv", TEXTS)
    assert files_of(tmp_path) == [file]
