"""A write that fails names its place, though the system does not."""

import errno
from pathlib import Path

import pytest

from headway.errors import UsageError
from headway.exporter.publish.staging import output_folder
from headway.exporter.publish.writing import written


@pytest.mark.parametrize(("number", "reason"), [(errno.ENOSPC, "the disk is full"), (errno.EIO, "cannot be written")])
def test_the_folder_and_the_reason_are_named(number: int, reason: str, tmp_path: Path) -> None:
    with pytest.raises(UsageError, match=rf"out: {reason}.*: give another `out`"), written(tmp_path / "out"):
        raise OSError(number, "Input/output error")


def test_a_folder_that_is_a_file_is_refused(tmp_path: Path) -> None:
    (tmp_path / "out").write_text("")
    with pytest.raises(UsageError, match="out: cannot be made a directory"):
        output_folder(tmp_path / "out")
