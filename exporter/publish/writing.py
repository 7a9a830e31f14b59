"""Name the place where a write fails."""

import errno
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from ...errors import UsageError


@contextmanager
def written(out: Path) -> Iterator[None]:
    """Turn what fails while files are written to `out` into a UsageError that names it: a full disk does not say which one it is."""
    try:
        yield
    except OSError as error:
        full = error.errno in (errno.ENOSPC, errno.EDQUOT)
        reason = "the disk is full" if full else f"cannot be written ({error.strerror})"
        raise UsageError(f"{out}: {reason}: give another --out") from error
