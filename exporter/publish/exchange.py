"""Put a finished directory in its place in one step, or say that the system has no such step."""

import ctypes
import errno
import os
import sys
from functools import cache
from pathlib import Path
from typing import Any

_AT_FDCWD = -100
_NOREPLACE, _EXCHANGE = 1, 2
_NO_SUCH_STEP = (errno.ENOSYS, errno.EINVAL, errno.ENOTSUP)
"""What a kernel without the call, or a file system without the flag, answers."""


def exchange(a: Path, b: Path) -> bool:
    """Exchange two names in one step; return False where the system cannot. Raise OSError as `os.rename` does."""
    return _renameat2(a, b, _EXCHANGE)


def move_to_free(source: Path, target: Path) -> None:
    """Rename a directory. Raise FileExistsError where the new name is taken, also where that happens at the same moment."""
    if _renameat2(source, target, _NOREPLACE):
        return
    if os.path.lexists(target):  # without the call, only an empty directory that comes into being now could be replaced
        raise FileExistsError(errno.EEXIST, os.strerror(errno.EEXIST), str(target))
    try:
        source.rename(target)
    except OSError as error:
        if error.errno in (errno.ENOTEMPTY, errno.EEXIST, errno.ENOTDIR):
            raise FileExistsError(errno.EEXIST, os.strerror(errno.EEXIST), str(target)) from error
        raise


def _renameat2(source: Path, target: Path, flag: int) -> bool:
    call = _call()
    if call is None:
        return False
    sys.audit("os.rename", str(source), str(target), -1, -1)  # as Python's own renaming does
    if call(_AT_FDCWD, os.fsencode(source), _AT_FDCWD, os.fsencode(target), flag) == 0:
        return True
    number = ctypes.get_errno()
    if number in _NO_SUCH_STEP:
        return False
    raise OSError(number, os.strerror(number), str(source), None, str(target))


@cache
def _call() -> Any:
    """Return Linux's `renameat2`, or None. Source: rename(2)."""
    try:
        call = ctypes.CDLL(None, use_errno=True).renameat2
    except (OSError, AttributeError, TypeError):  # another system, or an older C library
        return None
    call.argtypes = [ctypes.c_int, ctypes.c_char_p, ctypes.c_int, ctypes.c_char_p, ctypes.c_uint]
    return call
