"""JSON objects are read, or refused with the file's name and the reason."""

from pathlib import Path

import pytest

from headway.errors import SourceError
from headway.json_file import read_json


def test_an_object_is_read(tmp_path: Path) -> None:
    (tmp_path / "a.json").write_text('{"a": [1, "é"]}', encoding="utf-8")
    assert read_json(tmp_path / "a.json") == {"a": [1, "é"]}


@pytest.mark.parametrize(
    ("content", "reason"),
    [(b'{"a": 1\n"b": 2}', "line 2"), (b"[1]", "a JSON object is expected"), (b'{"a": "\xe9"}', "not valid JSON")],
)
def test_what_is_broken_is_named(content: bytes, reason: str, tmp_path: Path) -> None:
    (tmp_path / "a.json").write_bytes(content)
    with pytest.raises(SourceError, match=rf"a\.json: .*{reason}"):
        read_json(tmp_path / "a.json")


def test_a_missing_file_is_named(tmp_path: Path) -> None:
    with pytest.raises(SourceError, match=r"a\.json: No such file"):
        read_json(tmp_path / "a.json")
