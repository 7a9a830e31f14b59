"""Repair a bundle that was being replaced when a run was killed, where the system has no exchange of two names in one step.

`exporter.publish.staging` replaces a bundle in this order there: the old one is renamed to `.NAME.old-TOKEN` beside it, the new one is
renamed to its place, and the old one is removed. So after a crash either one is in place, or the old one lies beside it, unlocked.
"""

import errno
import os
import shutil
import tempfile
from collections.abc import Callable, Iterator
from contextlib import contextmanager, suppress
from pathlib import Path

from .errors import UsageError

OLD = "old"
_TRIES = 10


def real_path(out: Path) -> Path:
    """Return where a bundle lies or is to lie: what was written beside it lies there, not beside a link to it."""
    return Path(os.path.realpath(out))


def beside(out: Path, kind: str, token: str) -> Path:
    """Return the name of a directory beside `out`: `kind` is "new" or "old"."""
    return out.parent / f".{out.name}.{kind}-{token}"


def leftovers(out: Path, kind: str) -> list[Path]:
    """Return the directories of a kind beside `out`, of runs that live or were killed."""
    prefix = f".{out.name}.{kind}-"
    try:
        return sorted(
            p for p in out.parent.iterdir() if p.name.startswith(prefix) and p.is_dir() and not p.is_symlink()
        )
    except OSError:
        return []


@contextmanager
def abandoned(directory: Path) -> Iterator[bool]:
    """Yield whether no living process holds the lock of a directory; it is locked here meanwhile.

    A lock ends with its process, however that ends, and counts for all that share the file system, in whatever container.
    """
    handle = lock(directory)
    try:
        yield handle is not None
    finally:
        if handle is not None:
            os.close(handle)


def lock(directory: Path, *, wait: bool = False) -> int | None:
    """Lock a directory and return the handle that holds the lock; None where another process has it, or locks cannot be told.

    `wait`: for the other process to let it go.
    """
    try:
        import fcntl
    except ImportError:  # Windows
        return None
    handle = -1
    try:
        handle = os.open(directory, os.O_RDONLY)
        fcntl.flock(handle, fcntl.LOCK_EX | (0 if wait else fcntl.LOCK_NB))
        if os.path.samestat(os.fstat(handle), directory.stat()):
            return handle
    except OSError:
        pass
    if handle >= 0:
        os.close(handle)
    return None


@contextmanager
def held(directory: Path, busy: str) -> Iterator[None]:
    """Hold a directory for this process alone. UsageError with the sentence `busy` where another holds it."""
    handle = lock(directory)
    if handle is None and has_locks(directory):
        raise UsageError(busy)
    try:
        yield
    finally:
        if handle is not None:
            os.close(handle)


def has_locks(directory: Path) -> bool:
    """Return whether locks can be told in a directory: not on Windows, nor on some file systems that machines share."""
    with tempfile.TemporaryDirectory(dir=directory, prefix=".lock-") as free:
        handle = lock(Path(free))
        if handle is not None:
            os.close(handle)
        return handle is not None


@contextmanager
def own_folder(name: Callable[[], Path], mode: int = 0o777) -> Iterator[Path]:
    """Make a directory of a name that is free, and lock it; the lock goes with this process, however it ends.

    It is removed at the end, also where an interrupt comes while it is made.
    """
    for _ in range(_TRIES):
        folder, made, handle = name(), True, None
        try:
            try:
                folder.mkdir(mode)
            except FileExistsError:
                made = False  # another's
                continue
            handle = lock(folder, wait=True)  # a run that clears up may hold it for a moment: it is about to remove it
            if folder.is_dir():
                yield folder
                return
        finally:
            if made:
                shutil.rmtree(folder, ignore_errors=True)
            if handle is not None:
                os.close(handle)
    raise FileNotFoundError(errno.ENOENT, "directories that are made there vanish", str(folder.parent))


def restore(out: Path) -> bool:
    """Put the old bundle back where a killed run left nothing in its place; return whether that was done."""
    out = real_path(out)
    if os.path.lexists(out):
        return False
    for old in leftovers(out, OLD):
        with abandoned(old) as free:
            if free and not os.path.lexists(out):
                with suppress(OSError):  # another process was faster, or this one may not write here
                    old.rename(out)
                    return True
    return False
