"""`headway run`: what it prints, and what is refused."""

import json
from pathlib import Path

import pyarrow.parquet as pq
import pytest

from headway.exporter.export import Exported

from tests.support.command_line import Headway


@pytest.fixture
def texts(tmp_path: Path) -> Path:
    file = tmp_path / "in.txt"
    file.write_text("rain\nthe price of bread\n")
    return file


def test_rows_answers_and_a_table(headway: Headway, sentence_bundle: Exported, texts: Path) -> None:
    out = texts.with_name("out.parquet")
    done = headway("run", sentence_bundle.path, "--data", texts, "--out", out, "--dtype", "int8")
    assert done.returncode == 0, done.stderr
    assert "texts              2" in done.stdout and "stage 1 of 3: read the data" in done.stderr
    assert pq.read_schema(out).names == ["text", "embedding", "embedding_scale", "truncated"]
    done = headway("run", sentence_bundle.path, "--data", texts, "--out", out, "--force", "--json", "--threads", 1)
    told = json.loads(done.stdout)
    assert told["rows"] == 2 and told["parts_kept"] == 0 and told["texts_per_second"] > 0


@pytest.mark.parametrize(
    ("words", "code", "says"),
    [
        (["--column", "x"], 2, "no column 'x'; found text"),
        (["--prompt-name", "passage"], 2, "no prompt 'passage'"),
        (["--ray", "local", "--threads", "2"], 2, "--threads is for this machine"),
    ],
)
def test_wrong_options(
    headway: Headway, sentence_bundle: Exported, texts: Path, words: list[str], code: int, says: str
) -> None:
    done = headway("run", sentence_bundle.path, "--data", texts, "--out", texts.with_name("out"), *words)
    assert done.returncode == code and says in done.stderr
    assert [p.name for p in texts.parent.iterdir()] == [texts.name]  # no empty folder of parts


def test_libraries_that_are_missing_are_named(
    headway: Headway, sentence_bundle: Exported, texts: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    from headway.exporter.cli import shared

    for missing, extra in (("ray", "search"), ("pyarrow", "data")):
        monkeypatch.setattr(shared, "find_spec", lambda name, missing=missing: None if name == missing else object())
        done = headway("run", sentence_bundle.path, "--data", texts, "--out", "out", "--ray", "local")
        assert done.returncode == 4 and f"this needs {missing}" in done.stderr and f"headway[{extra}]" in done.stderr
