"""What stops a command from outside is one sentence: full disks, memory, folders that are gone, names that are not UTF-8."""

import errno
import os
from pathlib import Path

import pytest

from headway.errors import UsageError
from headway.exporter.cli import app, guard

from tests.support.command_line import Headway


@pytest.mark.parametrize(
    ("error", "says"),
    [
        (OSError(errno.ENOSPC, "No space left on device", "/disk/out"), "/disk/out: the disk is full: make room"),
        (OSError(errno.ENOSPC, "No space left on device"), "the disk is full: make room"),
        (
            PermissionError(errno.EACCES, "Permission denied", "/secret"),
            "/secret: Permission denied: change its permissions",
        ),
        (
            FileNotFoundError(errno.ENOENT, "No such file", b"/gone"),
            "/gone: No such file or directory: give one that is there",
        ),
        (
            FileNotFoundError(errno.ENOENT, "No usable temporary directory found"),
            "No usable temporary directory found: see",
        ),
        (Exception("No space left on device (os error 28)"), "the disk is full: make room"),
        (MemoryError(), "not enough memory for this model and text: give fewer or shorter texts"),
        (RuntimeError("DefaultCPUAllocator: can't allocate memory: you tried 9 bytes"), "not enough memory"),
        (RecursionError("maximum recursion depth"), "nested too deeply"),
    ],
)
def test_what_stops_a_command_is_a_sentence(
    error: Exception, says: str, headway: Headway, monkeypatch: pytest.MonkeyPatch
) -> None:
    def fail(*_: object, **__: object) -> None:
        raise error

    monkeypatch.setattr(app, "app", fail)
    done = headway("lint", "x", "--target", "x86-avx2")
    assert done.returncode == 2 and says in done.stderr and done.stderr.count("\n") == 1


def test_a_mistake_of_headway_s_own_is_not_hidden() -> None:
    for error in (KeyError("name"), ValueError("no"), RuntimeError("no"), AssertionError()):
        assert guard.explain(error) is None


def test_a_name_that_is_not_utf_8_is_shown_and_refused(headway: Headway) -> None:
    done = headway("export", os.fsdecode(b"model-\xff"), "--out", "out")
    assert done.returncode == 2 and "model-\\xff: the name is not UTF-8" in done.stderr
    assert headway("--version").returncode == 0


def test_a_working_directory_that_is_gone_is_named(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    folder = tmp_path / "folder"
    folder.mkdir()
    monkeypatch.chdir(folder)
    folder.rmdir()
    with pytest.raises(UsageError, match="working directory is not there any more"):
        guard.check_surroundings(["lint", "x"])
