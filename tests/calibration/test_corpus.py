"""Text in: files of every kind, and the built-in lines."""

import io
import json
from pathlib import Path

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import pytest

from headway.calibration.corpus import (
    TextFile,
    _stdin,
    builtin_lines,
    check_distinct,
    fingerprint,
    fingerprint_of,
    mixed_lengths,
    read_files,
    read_labeled,
    read_lines,
    required,
    short_names,
    texts_of,
)
from headway.errors import UsageError


def test_builtin_lines_are_varied() -> None:
    lines = builtin_lines()
    assert len(lines) == len(set(lines)) > 80
    words = [len(x.split()) for x in lines]
    assert min(words) <= 2
    assert max(words) > 100
    assert sum(any(ord(c) > 0x2FF for c in x) for x in lines) > 15


@pytest.mark.parametrize(
    ("name", "content"),
    [
        ("a.txt", "one\n\n two \none\n"),
        ("a.csv", "id,text\n1,one\n2,two\n3,one\n"),
        ("b.csv", "sentence,text2,text\na,b,one\nc,d,two\n"),
        ("a.jsonl", '{"id": 1, "content": "one"}\n{"id": 2, "content": "two"}\n'),
        ("c.jsonl", '{"id": 1, "body": "one"}\n{"id": 2, "body": "two"}\n'),
        ("late.jsonl", '{"label": "no"}\n{"text": "one", "label": "yes"}\n{"text": "two"}\n'),
        ("A.CSV", "text,label\none,1\ntwo,0\n"),
        ("mark.txt", "\ufeffone\ntwo\n"),
        ("mark.csv", "\ufefftext,label\none,1\ntwo,0\n"),
        ("mark.jsonl", '\ufeff{"text": "one"}\n{"text": "two"}\n'),
    ],
)
def test_files(tmp_path: Path, name: str, content: str) -> None:
    (tmp_path / name).write_text(content, encoding="utf-8")
    assert read_lines(tmp_path / name) == ["one", "two"]


@pytest.mark.parametrize(
    ("name", "content", "reason"),
    [
        ("empty.txt", b"\n\n", "no text"),
        ("latin.txt", b"caf\xe9", "UTF-8"),
        ("two.csv", b"a,b\nx,y\n", "which column"),
        ("bad.jsonl", b'{"text": ', "cannot be read"),
        ("list.jsonl", b"[1]\n", "object"),
        ("missing.txt", None, "No such file"),
        ("commas.csv", b"text,label\nx,1\ngood, but slow,1\n", "row 2 has more fields"),
        ("semicolons.csv", b"text;label\nx;1\n", "separated by commas"),
        ("quote.csv", b'text,label\n"x,1\ny,0\n', "end of data"),
        ("labels.jsonl", b'{"number": 1, "label": "good"}\n', "which column"),
        ("half.jsonl", b'{"text": "a\\ud800"}\n', "surrogate"),
        ("a.json", b'[{"text": "x"}]', r"\.jsonl"),
        ("a.tsv", b"text\tlabel\nx\t1\n", r"\.csv"),
    ],
)
def test_bad_files_are_named(tmp_path: Path, name: str, content: bytes | None, reason: str) -> None:
    if content is not None:
        (tmp_path / name).write_bytes(content)
    with pytest.raises(UsageError, match=reason) as caught:
        read_lines(tmp_path / name)
    assert name in str(caught.value)


def test_lengths_are_as_documented() -> None:
    lengths = mixed_lengths(20_000, 512)
    assert lengths.mean() == pytest.approx(28.5, rel=0.03)
    assert np.median(lengths) == pytest.approx(24.5, rel=0.03)
    assert mixed_lengths(100, 20).max() <= 20
    assert np.array_equal(mixed_lengths(10, 60, 1), mixed_lengths(10, 60, 1))


def test_fingerprint_depends_on_content_and_order() -> None:
    assert fingerprint(["a", "b"]) != fingerprint(["b", "a"])
    assert fingerprint(["a", "b"]) == fingerprint(["a", "b"])


ROWS = {"id": [1, 2, 3, 4], "body": ["one", "two", None, "one"], "note": ["a", "b", "c", "d"], "label": [0, 1, 1, 0]}


def write_dataset(folder: Path, rows: dict[str, list], shards: int = 2) -> Path:
    """Return what `save_to_disk` of datasets writes: Arrow streams, and their names in order."""
    folder.mkdir(parents=True)
    table = pa.table(rows)
    names = [f"data-{i:05d}-of-{shards:05d}.arrow" for i in range(shards)]
    step = -(-len(table) // shards)
    for i, name in enumerate(names):
        part = table.slice(i * step, step)
        with pa.OSFile(str(folder / name), "wb") as sink, pa.ipc.new_stream(sink, part.schema) as stream:
            stream.write_table(part)
    (folder / "state.json").write_text(json.dumps({"_data_files": [{"filename": n} for n in names]}))
    return folder


def test_parquet_and_arrow(tmp_path: Path) -> None:
    pq.write_table(pa.table(ROWS), tmp_path / "a.parquet")
    folder = write_dataset(tmp_path / "set", ROWS)
    for path in (tmp_path / "a.parquet", folder):
        assert read_lines(path, "body") == ["one", "two"]
        texts, labels = read_labeled(path, {"no": 0, "yes": 1}, "note")
        assert texts == ["a", "b", "c", "d"]
        assert labels is not None and labels.tolist() == [0, 1, 1, 0]
        with pytest.raises(UsageError, match=r"which column.*--column"):
            read_lines(path)
        with pytest.raises(UsageError, match="no column 'texts'; found id, body, note, label"):
            read_lines(path, "texts")
    labels = {k: v for k, v in ROWS.items() if k != "note"}
    assert read_lines(write_dataset(tmp_path / "one", labels, shards=1)) == ["one", "two"]


def test_a_column_of_categories_is_text(tmp_path: Path) -> None:
    coded = pa.array(["one", "two"]).dictionary_encode()
    pq.write_table(pa.table({"text": coded, "label": ["yes", "no"]}), tmp_path / "a.parquet")
    texts, labels = read_labeled(tmp_path / "a.parquet", {"no": 0, "yes": 1})
    assert texts == ["one", "two"] and labels is not None and labels.tolist() == [1, 0]


def test_splits_of_a_dataset(tmp_path: Path) -> None:
    for name in ("test", "train"):
        write_dataset(tmp_path / "sets" / name, {"text": [name]}, shards=1)
    splits = tmp_path / "sets" / "dataset_dict.json"
    splits.write_text('{"splits": ["test", "train"]}')
    assert read_lines(tmp_path / "sets") == ["train"]
    assert read_lines(tmp_path / "sets" / "test") == ["test"]
    splits.write_text('{"splits": ["test", "dev"]}')
    with pytest.raises(UsageError, match=r"which split.*test, dev"):
        read_lines(tmp_path / "sets")


def test_a_column_can_be_named(tmp_path: Path) -> None:
    (tmp_path / "a.csv").write_text("text,title\none,two\n")
    assert read_lines(tmp_path / "a.csv", "title") == ["two"]
    (tmp_path / "a.txt").write_text("one\n")
    with pytest.raises(UsageError, match="no columns"):
        read_lines(tmp_path / "a.txt", "title")


def test_standard_input_is_read_once(monkeypatch: pytest.MonkeyPatch) -> None:
    _stdin.cache_clear()
    monkeypatch.setattr("sys.stdin", io.TextIOWrapper(io.BytesIO("one\n\nzwö\none\n".encode())))
    assert read_lines(Path("-")) == read_lines(Path("-")) == ["one", "zwö"]
    _stdin.cache_clear()


@pytest.mark.parametrize(("name", "reason"), [("a.parquet", "cannot be read as parquet"), ("set", "save_to_disk")])
def test_bad_tables_are_named(tmp_path: Path, name: str, reason: str) -> None:
    path = tmp_path / name
    path.mkdir() if name == "set" else path.write_bytes(b"no")
    with pytest.raises(UsageError, match=reason) as caught:
        read_lines(path)
    assert name in str(caught.value)


def test_without_text_the_error_says_how_to_give_it() -> None:
    with pytest.raises(UsageError, match=r"calibration learns from text: give --data FILE"):
        required(None, "calibration")
    assert required(Path("a.txt"), "calibration") == Path("a.txt")


def test_labels_that_are_missing_or_floats(tmp_path: Path) -> None:
    pa, pq = pytest.importorskip("pyarrow"), pytest.importorskip("pyarrow.parquet")
    path, classes = tmp_path / "t.parquet", {"no": 0, "yes": 1}
    pq.write_table(pa.table({"text": ["a", "b"], "label": [1.0, 0.0]}), path)
    assert list(read_labeled(path, classes)[1]) == [1, 0]  # type: ignore[arg-type]
    for missing in (None, float("nan")):
        pq.write_table(pa.table({"text": ["a", "b"], "label": [1.0, missing]}), path)
        with pytest.raises(UsageError, match="row 2 has no label"):
            read_labeled(path, classes)


def test_values_that_are_no_text_are_refused(tmp_path: Path) -> None:
    path = tmp_path / "t.jsonl"
    path.write_text('{"text": "a"}\n{"text": ["b", "c"]}\n')
    with pytest.raises(UsageError, match="row 2 of 'text' is no text but a list"):
        read_lines(path)


def test_a_parquet_file_that_is_damaged_behind_its_schema(tmp_path: Path) -> None:
    pa, pq = pytest.importorskip("pyarrow"), pytest.importorskip("pyarrow.parquet")
    path = tmp_path / "t.parquet"
    pq.write_table(pa.table({"text": ["\u00e9" * 9, "b"] * 9}), path, compression="none", use_dictionary=False)
    path.write_bytes(path.read_bytes().replace("\u00e9".encode(), b"\xff\xff"))
    with pytest.raises(UsageError, match="cannot be read as parquet in UTF-8"):
        read_lines(path)


CLASSES = {"no": 0, "yes": 1}


def test_several_files_are_read_one_by_one(tmp_path: Path) -> None:
    (tmp_path / "a.csv").write_text("text,label\none,no\ntwo,yes\n")
    (tmp_path / "b.jsonl").write_text('{"text": "two", "label": 1}\n{"text": "three", "label": "no"}\n')
    files = read_files([tmp_path / "a.csv", tmp_path / "b.jsonl"], CLASSES)
    assert [(f.name, f.texts, list(f.labels)) for f in files] == [  # type: ignore[arg-type]
        ("a.csv", ["one", "two"], [0, 1]),
        ("b.jsonl", ["two", "three"], [1, 0]),
    ]
    assert texts_of(files) == ["one", "two", "three"]
    assert read_files([], CLASSES) == []


def test_files_with_and_without_labels_are_not_mixed(tmp_path: Path) -> None:
    (tmp_path / "with.csv").write_text("text,label\none,no\n")
    (tmp_path / "without.txt").write_text("two\n")
    for names in (("with.csv", "without.txt"), ("without.txt", "with.csv")):
        paths = [tmp_path / name for name in names]
        with pytest.raises(UsageError, match=r"without\.txt: has no labels, and .*with\.csv has some"):
            read_files(paths, CLASSES)
        assert [f.labels for f in read_files(paths, {})] == [None, None]  # a model without classes reads no labels


def test_a_file_given_twice_is_refused(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    (tmp_path / "a.txt").write_text("one\n")
    (tmp_path / "link.txt").symlink_to("a.txt")
    with pytest.raises(UsageError, match=r"^a\.txt: is given twice: give each file of `data`"):
        read_files([Path("a.txt"), Path("a.txt")], {})
    for other in (tmp_path / "a.txt", Path("link.txt")):
        with pytest.raises(UsageError, match=r"is given twice, as a\.txt too"):
            read_files([Path("a.txt"), other], {})
    with pytest.raises(UsageError, match=r"^-: is given twice"):
        read_files([Path("-"), Path("-")], {})


@pytest.mark.parametrize(
    ("paths", "names"),
    [
        (["/x/a.txt"], ["a.txt"]),
        (["/x/a.txt", "b/a.csv"], ["a.txt", "a.csv"]),
        (["/x/a.txt", "/y/a.txt", "/y/b.txt"], ["x/a.txt", "y/a.txt", "b.txt"]),
        (["/x/z/a.txt", "/y/z/a.txt", "a.txt"], ["x/z/a.txt", "y/z/a.txt", "a.txt"]),
    ],
)
def test_names_tell_files_apart(paths: list[str], names: list[str]) -> None:
    assert short_names([Path(p) for p in paths]) == names


def test_the_fingerprint_of_several_files_tells_where_one_ends() -> None:
    whole, first, second = TextFile("w", ["a", "b"]), TextFile("f", ["a"]), TextFile("s", ["b"])
    assert fingerprint_of([whole]) == fingerprint(["a", "b"])
    assert len({fingerprint_of(f) for f in ([whole], [first, second], [second, first])}) == 3


@pytest.mark.parametrize("name", ["\ud800", "a\0b"])
def test_a_name_that_no_file_can_have_is_left_to_whoever_reads_it(name: str) -> None:
    check_distinct([Path(name), Path("b.txt")])
    with pytest.raises(UsageError, match="is given twice"):
        check_distinct([Path(name), Path(name)])
