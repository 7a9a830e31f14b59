"""How tables of two texts a row are read."""

import json
from pathlib import Path

import numpy as np
import pytest

from headway.calibration.text_pairs import as_list, numbers_of, read_pairs
from headway.errors import HeadwayWarning, UsageError


def test_lists_in_plain_strings_are_read(tmp_path: Path) -> None:
    path = tmp_path / "t.csv"
    path.write_text('query,documents,relevance\nq,"[""a"", ""b c""]","[1, 0]"\nr,one text,1\n')
    table = read_pairs(path, "rankings", ("label",))
    assert table is not None and table.pairs == [("q", "a"), ("q", "b c"), ("r", "one text")]
    assert table.labels == [1, 0, "1"] and table.queries is not None and table.queries.tolist() == [0, 0, 1]
    assert table.parts == ["q", "a", "b c", "r", "one text"]


def test_without_names_of_labels_none_are_read(tmp_path: Path) -> None:
    path = tmp_path / "t.jsonl"
    path.write_text(json.dumps({"query": "q", "texts": ["a", "b"], "relevance": "anything"}))
    table = read_pairs(path, "parts")
    assert table is not None and table.labels is None and table.parts == ["q", "a", "b"]


def test_what_is_no_table_of_pairs(tmp_path: Path) -> None:
    (tmp_path / "t.txt").write_text("one\n")
    (tmp_path / "t.csv").write_text("text,query\na,b\n")
    (tmp_path / "empty.csv").write_text("query,text\n")
    assert read_pairs(tmp_path / "t.txt", "rankings") is None and read_pairs(Path("-"), "rankings") is None
    assert read_pairs(tmp_path / "t.csv", "pairs") is None and read_pairs(tmp_path / "empty.csv", "rankings") is None
    with pytest.warns(HeadwayWarning, match="as pairs of 'query' and 'text'"):
        table = read_pairs(tmp_path / "t.csv", "rankings")
    assert table is not None and table.pairs == [("b", "a")] and table.queries is not None


def test_cells_that_are_no_lists_and_no_numbers() -> None:
    path = Path("t.csv")
    assert as_list(path, 1, "[1, 2]", "a list") == [1, 2] and as_list(path, 1, "a b", "a list") == ["a", "b"]
    np.testing.assert_array_equal(numbers_of(path, ["1", 2.5]), [1, 2.5])
    with pytest.raises(UsageError, match="row 7 holds None; give a list of tags"):
        as_list(path, 7, None, "a list of tags")
    with pytest.raises(UsageError, match="a score is not finite"):
        numbers_of(path, [float("nan")])
