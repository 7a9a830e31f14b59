"""Say in one sentence what stops a command that is no mistake of Headway's: a full disk, a file that is not there, too little memory."""

import errno
import os
import shutil
import sys
import tempfile
from contextlib import suppress
from pathlib import Path

from ...errors import UsageError
from ...system_errors import FULL, number_of

_NO_MEMORY = (
    "can't allocate memory",
    "not enough memory",
    "bad_alloc",
    "bad allocation",
    "Failed to allocate",
    "std::bad_alloc",
)
_LITTLE = 16 << 20


def check_surroundings(words: list[str]) -> None:
    """Raise UsageError for words that are no UTF-8, and where the working directory is gone: both would fail anywhere."""
    for word in words:
        try:
            word.encode()
        except UnicodeEncodeError as error:
            shown = os.fsencode(word).decode("utf-8", "backslashreplace")
            raise UsageError(
                f"{shown}: the name is not UTF-8, which recipes and manifests are written in: rename it, or give a link to it"
            ) from error
    try:
        Path.cwd()
    except OSError as error:
        raise UsageError(
            f"the working directory is not there any more ({error.strerror}): cd to one that is"
        ) from error


def explain(error: BaseException) -> str | None:
    """Return what to do about an error of disk, memory or environment; None for any other, which is Headway's own mistake."""
    if isinstance(error, RecursionError):
        return "something in the input is nested too deeply to be read: see the model's JSON files and the recipe"
    if isinstance(error, MemoryError) or (
        isinstance(error, RuntimeError) and any(words in str(error) for words in _NO_MEMORY)
    ):
        return (
            "not enough memory for this model and text: give fewer or shorter texts (--samples, --data), a smaller batch (--shape), "
            "or a machine with more memory; nothing was written"
        )
    number = number_of(error)
    if number is None:
        return None
    name = getattr(error, "filename", None)
    if number in FULL:
        return f"{_named(name) or _fullest()}: the disk is full: make room, or set TMPDIR and --out to a disk that has some"
    if name is None:
        return (
            f"{str(error) or os.strerror(number)}: see the folders given, TMPDIR ({_temporary()}) and the user's cache"
        )
    advice = {
        errno.ENOENT: "give one that is there",
        errno.EACCES: "change its permissions, or give another",
        errno.EPERM: "change its permissions, or give another",
        errno.EROFS: "give one on a disk that can be written",
        errno.ENAMETOOLONG: "give a shorter name",
        errno.EISDIR: "give a file",
        errno.ENOTDIR: "give a directory",
        errno.ELOOP: "its links lead in a circle; mend them",
        errno.EMFILE: "close other files, or raise ulimit -n",
    }.get(number, "see whether it can be read and written")
    return f"{_named(name)}: {os.strerror(number)}: {advice}"


def _named(name: object) -> str:
    return os.fsdecode(name) if isinstance(name, str | bytes | os.PathLike) else "" if name is None else str(name)


def _temporary() -> str:
    with suppress(OSError):
        return tempfile.gettempdir()
    return os.environ.get("TMPDIR", "not set")


def _fullest() -> str:
    """Return the folder that is full, of those that a command writes to: a write that fails does not name its file."""
    given = [word for word in sys.argv[1:] if not word.startswith("-")]
    for place in (*given, _temporary(), str(Path.cwd())):
        folder = next((p for p in (Path(place), *Path(place).parents) if p.is_dir()), None)
        with suppress(OSError):
            if folder is not None and shutil.disk_usage(folder).free < _LITTLE:
                return str(folder)
    return f"{_temporary()} or the output"
