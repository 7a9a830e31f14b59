"""Read the number of an error of the system, wherever it stands."""

import errno
import re

FULL = (errno.ENOSPC, errno.EDQUOT)
"""A disk without room, or a user without a share of it."""

_NATIVE = re.compile(r"\(os error (\d+)\)")
"""How libraries in Rust end their messages."""


def number_of(error: BaseException) -> int | None:
    """Return the system's number of an error; that in the message of a library in Rust as well. None where it has none."""
    if isinstance(error, OSError):
        return error.errno or errno.EIO
    found = _NATIVE.search(str(error))
    return int(found[1]) if found else None
