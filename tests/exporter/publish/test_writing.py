"""A write that fails names its place, though the system does not."""

import errno
from pathlib import Path

import pytest

from headway.errors import UsageError
from headway.exporter.publish.staging import output_folder
from headway.exporter.publish.writing import put_text, written


@pytest.mark.parametrize(("number", "reason"), [(errno.ENOSPC, "the disk is full"), (errno.EIO, "cannot be written")])
def test_the_folder_and_the_reason_are_named(number: int, reason: str, tmp_path: Path) -> None:
    with pytest.raises(UsageError, match=rf"out: {reason}.*: give another `out`"), written(tmp_path / "out"):
        raise OSError(number, "Input/output error")


def test_a_folder_that_is_a_file_is_refused(tmp_path: Path) -> None:
    (tmp_path / "out").write_text("")
    with pytest.raises(UsageError, match="out: cannot be made a directory"):
        output_folder(tmp_path / "out")


def test_a_text_is_written_in_one_step(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    file = tmp_path / "front.json"
    put_text(file, "before\n")
    seen: list[str] = []
    write = Path.write_text

    def watched(path: Path, text: str, **keys: str) -> int:
        done = write(path, text, **keys)
        seen.append(file.read_text())
        return done

    monkeypatch.setattr(Path, "write_text", watched)
    put_text(file, "später\n")
    assert seen == ["before\n"] and file.read_bytes() == "später\n".encode()
    assert [p.name for p in tmp_path.iterdir()] == ["front.json"]
