"""Text in: files of every kind, and the built-in lines."""

from pathlib import Path

import numpy as np
import pytest

from headway.calibration.text import builtin_lines, fingerprint, mixed_lengths, read_lines
from headway.exporter.errors import UsageError


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
