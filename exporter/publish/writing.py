"""Name the place where a write fails, and write files in one step."""

from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from ...errors import UsageError
from ...system_errors import FULL


@contextmanager
def written(out: Path) -> Iterator[None]:
    """Turn what fails while files are written to `out` into a UsageError that names it: a full disk does not say which one it is."""
    try:
        yield
    except OSError as error:
        reason = "the disk is full" if error.errno in FULL else f"cannot be written ({error.strerror})"
        raise UsageError(f"{out}: {reason}: give another `out` (--out)") from error


def put_text(path: Path, text: str) -> None:
    """Write a text file in one step: whoever reads it meanwhile has the one before."""
    part = path.with_name(f".{path.name}.part")
    part.write_text(text, encoding="utf-8")
    part.replace(path)
