"""How columns of tables are found."""

from pathlib import Path

import pytest

from headway.calibration.text_tables import open_table, read_columns
from headway.errors import UsageError


def test_columns_are_read_by_the_first_name_that_is_there(tmp_path: Path) -> None:
    table = tmp_path / "pairs.csv"
    table.write_text("text1,sentence2,score\na,b,0.5\n")
    wanted = {"first": ("sentence1", "text1"), "score": ("score",)}
    assert read_columns(table, wanted) == {"first": ["a"], "score": ["0.5"]}
    with pytest.raises(UsageError, match="has no column third; found text1, sentence2, score"):
        read_columns(table, {"third": ("third",)})
    table.write_text("text1,score\n")
    with pytest.raises(UsageError, match="holds no text"):
        read_columns(table, wanted)
    with pytest.raises(UsageError, match="plain text has no columns"):
        read_columns(tmp_path / "x.txt", wanted)
    with pytest.raises(UsageError, match="No such file"):
        read_columns(tmp_path / "x.jsonl", wanted)


def test_plain_text_is_no_table_and_other_tables_are_refused(tmp_path: Path) -> None:
    (tmp_path / "a.txt").write_text("one\n")
    assert open_table(tmp_path / "a.txt") is None and open_table(Path("-")) is None
    for name, advice in (("a.tsv", "save it as .csv, with commas"), ("a.json", "save it as .jsonl, one object a line")):
        with pytest.raises(UsageError, match=advice):
            open_table(tmp_path / name)
