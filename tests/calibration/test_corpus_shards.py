"""A corpus in shards: all its texts, each by the number of its row, but for those that are held out."""

import json
from pathlib import Path

import pyarrow as pa
import pyarrow.parquet as pq
import pytest

from headway.calibration.corpus_shards import open_corpus
from headway.errors import UsageError

TEXTS = [f"text {i}" for i in range(10)] + ["", "  ", "text 3"]


def parquet(path: Path, texts: list[object] = TEXTS, **columns: list[object]) -> Path:
    pq.write_table(pa.table({"text": texts, **columns}), path, row_group_size=4)
    return path


def lines(path: Path) -> Path:
    path.write_text("".join(json.dumps({"text": text}) + "\n" for text in TEXTS))
    return path


@pytest.mark.parametrize(("make", "name"), [(parquet, "a.parquet"), (lines, "a.jsonl")])
@pytest.mark.parametrize("rows", [1, 3, 100])
def test_all_texts_with_their_rows(make, name: str, rows: int, tmp_path: Path) -> None:
    corpus = open_corpus([make(tmp_path / name)], rows=rows)
    read = [row for number in range(len(corpus.shards)) for row in corpus.texts(number)]
    assert read == [(i, text.strip()) for i, text in enumerate(TEXTS) if text.strip()]  # a repeated one counts twice


def test_what_is_held_out_is_left_out_wherever_it_stands(tmp_path: Path) -> None:
    corpus = open_corpus([parquet(tmp_path / "a.parquet")], left_out=["text 3", "  text 5 "], rows=5)
    read = {text for number in range(len(corpus.shards)) for _, text in corpus.texts(number)}
    assert read == {text for text in TEXTS if text.strip()} - {"text 3", "text 5"}


def test_a_line_that_is_held_out_is_not_read_beside_others(tmp_path: Path) -> None:
    (tmp_path / "a.txt").write_text("rain\u2028the price\nbread\n", encoding="utf-8")
    corpus = open_corpus([tmp_path / "a.txt"], left_out=["rain"])
    assert [text for _, text in corpus.texts(0)] == ["bread"]


def test_several_files_and_directories(tmp_path: Path) -> None:
    (tmp_path / "folder").mkdir()
    parquet(tmp_path / "folder" / "a.parquet")
    parquet(tmp_path / "folder" / "b.parquet", ["one more"], other=["x"])
    corpus = open_corpus([tmp_path / "folder", lines(tmp_path / "c.jsonl")], "text")
    assert [len(corpus.texts(n)) for n in range(3)] == [11, 1, 11]


def test_bad_corpora_are_named(tmp_path: Path) -> None:
    one = parquet(tmp_path / "a.parquet")
    with pytest.raises(UsageError, match=r"a\.parquet: is given twice"):
        open_corpus([one, tmp_path / "." / "a.parquet"])
    with pytest.raises(UsageError, match="no such file"):
        open_corpus([tmp_path / "missing.parquet"])
    with pytest.raises(UsageError, match="no column 'body'; found text"):
        open_corpus([one], "body")
    with pytest.raises(UsageError, match=r"empty\.parquet: holds no text"):
        open_corpus([parquet(tmp_path / "empty.parquet", pa.array([], pa.string()))])
    numbers = open_corpus([parquet(tmp_path / "numbers.parquet", TEXTS, number=list(range(13)))], "number")
    with pytest.raises(UsageError, match="row 1 of 'number' is no text but a int"):
        numbers.texts(0)


@pytest.mark.parametrize("change", ["larger", "gone"])
def test_a_file_that_changes_is_refused(change: str, tmp_path: Path) -> None:
    file = lines(tmp_path / "a.jsonl")
    corpus = open_corpus([file], rows=5)
    corpus.texts(0)
    if change == "gone":
        file.unlink()
    else:
        file.write_text(file.read_text() + "\n")
    with pytest.raises(
        UsageError, match=r"a\.jsonl: is not there on" if change == "gone" else r"a\.jsonl: is another file on"
    ):
        corpus.texts(1)


def test_rows_that_lack_the_column_hold_no_text(tmp_path: Path) -> None:
    file = tmp_path / "a.jsonl"
    file.write_text('{"id": 1}\n{"id": 2}\n{"id": 3, "text": "rain"}\n')
    corpus = open_corpus([file], "text", rows=2)
    assert [corpus.texts(n) for n in range(2)] == [[], [(2, "rain")]]
