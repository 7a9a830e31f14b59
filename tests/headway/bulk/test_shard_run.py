"""Runs over files: every row once, in order, however often a run was stopped."""

import json
import os
import shutil
import signal
import subprocess
import sys
from pathlib import Path

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import pytest

import headway
from headway.bulk import shard_run
from headway.bulk.shard_run import run
from headway.errors import SourceError, UsageError
from headway.manifest import MANIFEST

from tests.support.reports import bench

TEXTS = ["the price of bread", "rain", "a small model runs", "rain and bread", "large heads"] * 4


@pytest.fixture
def data(tmp_path: Path) -> Path:
    file = tmp_path / "in.jsonl"
    rows = [{"id": i, "text": text if i % 7 else None} for i, text in enumerate(TEXTS)]
    file.write_text("".join(json.dumps(row) + "\n" for row in rows))
    return file


def check(out: Path, bundle: Path) -> None:
    rows = pq.read_table(out).to_pylist()
    assert [row["id"] for row in rows] == list(range(len(TEXTS)))
    expected = headway.open(bundle)(TEXTS)["sentence_embedding"]
    for i, row in enumerate(rows):
        assert row["text"] == (TEXTS[i] if i % 7 else None)
        if i % 7:
            np.testing.assert_allclose(row["embedding"], expected[i], atol=1e-5)
        else:
            assert row["embedding"] is None and row["truncated"] is None


@pytest.mark.parametrize("name", ["out.parquet", "out"])
def test_rows_and_answers_are_written_in_order(embedder: Path, data: Path, name: str) -> None:
    out = data.with_name(name)
    steps: list[tuple[str, float | None]] = []
    done = run(embedder, data, out, rows=6, step=lambda s, of=None, at=None: steps.append((s, at)))
    check(out, embedder)
    assert (done.shards, done.kept, done.counts.rows, done.counts.texts) == (
        4,
        0,
        20,
        17,
    ) and done.counts.truncated == 0
    assert [at for s, at in steps if s == "shards"] == [0, 1, 2, 3, 4] and done.texts_per_second
    assert {p.name for p in data.parent.iterdir()} == {"in.jsonl", name}
    with pytest.raises(UsageError, match="exists"):
        run(embedder, data, out)
    run(embedder, data, out, rows=7, force=True)
    check(out, embedder)


def test_what_was_finished_is_not_answered_again(embedder: Path, data: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    out, answered = data.with_name("out.parquet"), []
    original = shard_run.answer_shard

    def stops_at_the_third(plan: shard_run.Plan, number: int, *rest: object) -> object:
        if len(answered) == 2:
            raise KeyboardInterrupt
        answered.append(number)
        return original(plan, number, *rest)  # type: ignore[arg-type]

    monkeypatch.setattr(shard_run, "answer_shard", stops_at_the_third)
    with pytest.raises(KeyboardInterrupt):
        run(embedder, data, out, rows=6)
    assert not out.exists()
    monkeypatch.setattr(
        shard_run, "answer_shard", lambda plan, n, *rest: answered.append(n) or original(plan, n, *rest)
    )
    done = run(embedder, data, out, rows=6)
    assert answered == [0, 1, 2, 3] and (done.shards, done.kept) == (4, 2)
    check(out, embedder)


_KILLED = """
import os, signal, sys
from pathlib import Path
from headway.bulk import result_files, shard_run
write = shard_run.write_part
def killed(file, *rest):
    if file.name == "part-000002.parquet":
        file.with_name("." + file.name + ".1").write_bytes(b"half")
        os.kill(os.getpid(), signal.SIGKILL)
    write(file, *rest)
shard_run.write_part = killed
shard_run.run(Path(sys.argv[1]), Path(sys.argv[2]), Path(sys.argv[3]), rows=6)
"""


def test_a_run_that_was_killed_goes_on(embedder: Path, data: Path) -> None:
    out = data.with_name("out.parquet")
    done = subprocess.run([sys.executable, "-c", _KILLED, embedder, data, out], capture_output=True, text=True)
    assert done.returncode == -signal.SIGKILL, done.stderr
    folder = data.with_name(".out.parquet.parts")
    before = {p.name: p.stat().st_ino for p in folder.glob("part-*")}
    assert set(before) == {"part-000000.parquet", "part-000001.parquet"}
    assert run(embedder, data, out, rows=6).kept == 2
    check(out, embedder)
    assert not folder.exists()


def test_parts_of_another_run_are_not_taken(embedder: Path, data: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    out = data.with_name("out.parquet")

    def put_nothing(*_: object) -> None:
        raise KeyboardInterrupt

    with monkeypatch.context() as patch:
        patch.setattr(shard_run, "_put_in_place", put_nothing)
        with pytest.raises(KeyboardInterrupt):
            run(embedder, data, out, rows=6)
    for changes in ({"rows": 5}, {"rows": 6, "dtype": "float16"}):
        with pytest.raises(UsageError, match="parts of a run over other data, or with other settings"):
            run(embedder, data, out, **changes)  # type: ignore[arg-type]
    os.utime(data, (1, 1))
    with pytest.raises(UsageError, match="other data"):
        run(embedder, data, out, rows=6)
    assert run(embedder, data, out, rows=6, force=True).kept == 0
    check(out, embedder)


def test_parts_whose_plan_is_gone_are_not_taken(embedder: Path, data: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    out = data.with_name("out")

    def killed(self: Path, target: Path) -> None:
        raise KeyboardInterrupt

    with monkeypatch.context() as patch:
        patch.setattr(Path, "rename", killed)  # after the plan was removed
        with pytest.raises(KeyboardInterrupt):
            run(embedder, data, out, rows=6)
    assert not (data.with_name(".out.parts") / "plan").exists()
    with pytest.raises(UsageError, match="other data, or with other settings"):
        run(embedder, data, out, rows=6, dtype="float16")
    run(embedder, data, out, rows=6, dtype="float16", force=True)
    assert pq.read_schema(out / "part-000000.parquet").field("embedding").type == pa.list_(pa.float16(), 32)


def test_a_run_that_failed_before_its_first_part_leaves_nothing(embedder: Path, data: Path) -> None:
    out = data.with_name("out.parquet")
    with pytest.raises(UsageError, match="no prompt 'passage'"):
        run(embedder, data, out, prompt_name="passage")
    with pytest.raises(SourceError):
        run(data.parent, data, out)
    assert [p.name for p in data.parent.iterdir()] == ["in.jsonl"]
    run(embedder, data, out)
    check(out, embedder)


def test_a_bundle_that_was_replaced_is_noticed(embedder: Path, data: Path, tmp_path: Path) -> None:
    bundle = Path(shutil.copytree(embedder, tmp_path / "bundle"))

    def replaces(plan: shard_run.Plan, missing: object, step: object) -> None:
        raw = json.loads((bundle / MANIFEST).read_text())
        (bundle / MANIFEST).write_text(json.dumps(raw | {"labels": {"0": "other"}}))
        shard_run.opened(plan)

    before = shard_run.identity_of(bundle)
    raw = json.loads((bundle / MANIFEST).read_text())
    (bundle / MANIFEST).write_text(json.dumps(raw | {"bench": bench()}))
    assert shard_run.identity_of(bundle) == before  # it is no faster for it
    with pytest.raises(SourceError, match="was replaced since the run began"):
        run(bundle, data, tmp_path / "out", compute=replaces)


def test_rows_may_lack_the_text_but_no_file_its_column(embedder: Path, tmp_path: Path) -> None:
    file = tmp_path / "in.jsonl"
    file.write_text('{"id": 1}\n' * 120 + '{"text": "rain"}\n')
    run(embedder, file, tmp_path / "out", rows=50, column="text")
    assert pq.read_table(tmp_path / "out").column("embedding").null_count == 120
    folder = tmp_path / "files"
    folder.mkdir()
    (folder / "a.csv").write_text("text\nrain\n")
    (folder / "b.csv").write_text("body\nrain\n")
    with pytest.raises(UsageError, match=r"b\.csv: there is no column 'text'; found body"):
        run(embedder, folder, tmp_path / "out2")


def test_parts_of_a_directory_are_one_dataset(tagger: Path, tmp_path: Path) -> None:
    file = tmp_path / "in.jsonl"
    file.write_text('{"text": ""}\n{"text": "the price of bread"}\n{"text": null}\n')
    run(tagger, file, tmp_path / "out", rows=1)
    found = pq.read_table(tmp_path / "out").column("entities").to_pylist()
    assert found[0] == [] and found[2] is None


def test_file_systems_without_locks(embedder: Path, data: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("headway.replaced.lock", lambda folder, **_: None)
    run(embedder, data, data.with_name("out.parquet"))
    check(data.with_name("out.parquet"), embedder)


def test_two_runs_to_one_place(embedder: Path, data: Path) -> None:
    from headway.replaced import lock

    out = data.with_name("out.parquet")
    folder = data.with_name(".out.parquet.parts")
    folder.mkdir()
    handle = lock(folder)
    assert handle is not None
    with pytest.raises(UsageError, match="another run writes there"):
        run(embedder, data, out)
    os.close(handle)
    run(embedder, data, out)
    check(out, embedder)


def test_what_is_no_result_is_not_replaced(embedder: Path, data: Path) -> None:
    folder = data.with_name("mine")
    folder.mkdir()
    (folder / "thesis.txt").write_text("years")
    with pytest.raises(UsageError, match="not what a run wrote"):
        run(embedder, data, folder, force=True)
    with pytest.raises(UsageError, match="is the data"):
        run(embedder, data, data, force=True)
    mine = data.with_name("parts")
    mine.mkdir()
    pq.write_table(pa.table({"text": ["rain"]}), mine / "part-000000.parquet")
    with pytest.raises(UsageError, match="not what a run wrote"):
        run(embedder, data, mine, force=True)
    assert (folder / "thesis.txt").read_text() == "years"


def test_texts_that_are_none_are_named(embedder: Path, tmp_path: Path) -> None:
    file = tmp_path / "in.jsonl"
    file.write_text('{"text": "rain"}\n{"text": "a"}\n{"text": "a"}\n')
    with pytest.raises(UsageError, match="no column 'id'"):
        run(embedder, file, tmp_path / "out", column="id")
    file.write_text('{"id": 3, "text": "a"}\n')
    with pytest.raises(UsageError, match="row 1 of 'id' is no text but a int"):
        run(embedder, file, tmp_path / "out", column="id")
    file.write_text("")
    with pytest.raises(UsageError, match="has no rows"):
        run(embedder, file, tmp_path / "out")
