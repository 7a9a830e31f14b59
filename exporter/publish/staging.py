"""Write output completely or not at all: beside its place first, then put into it in one step.

Where the system exchanges two names in one step (Linux), what is replaced is there until the new one is. Elsewhere the old one is
renamed, the new one takes its place, and the old one is removed: see `headway.replaced`, which repairs what a crash leaves there.
A directory beside the output belongs to a living run while its lock is held, whatever the process's number, and in whatever container.
"""

import errno
import os
import secrets
import shutil
from collections.abc import Iterator
from contextlib import ExitStack, contextmanager, suppress
from pathlib import Path

from ...errors import UsageError
from ...manifest import MANIFEST
from ...replaced import OLD, abandoned, beside, leftovers, lock, own_folder, restore
from ...system_errors import FULL
from .exchange import exchange, move_to_free

_NEW = "new"
_TRIES = 10


@contextmanager
def staged(out: Path, *, force: bool, marker: str = MANIFEST) -> Iterator[Path]:
    """Yield a directory beside `out`; on success it becomes `out`, on any error it is removed and `out` is as before.

    Raise UsageError where `out` exists and `force` is not given (at the start, and again at the end, where another run was faster),
    where its parent cannot be written, or the disk is full. What killed runs left is removed. `marker`: a file that only output
    which may be replaced has.
    """
    out = out.resolve()
    clear_abandoned(out)
    _check_place(out, force, marker)
    with ExitStack() as stack:
        try:
            out.parent.mkdir(parents=True, exist_ok=True)
            staging = stack.enter_context(own_folder(lambda: beside(out, _NEW, secrets.token_hex(6))))
        except OSError as error:
            raise UsageError(f"{out.parent}: cannot be written ({error.strerror})") from error
        try:
            yield staging
            _flush(staging)
            _put_in_place(staging, out, force, marker)
        except OSError as error:
            if error.errno in FULL:
                raise UsageError(f"{out.parent}: the disk is full; nothing was written") from error
            if error.errno in (errno.EROFS, errno.EACCES, errno.EPERM):
                raise UsageError(f"{out.parent}: cannot be written ({error.strerror})") from error
            raise


def output_folder(out: Path) -> Path:
    """Make `out` a directory where it is none, and return it. Raise UsageError where that is not possible."""
    try:
        out.mkdir(parents=True, exist_ok=True)
    except OSError as error:
        raise UsageError(f"{out}: cannot be made a directory ({error.strerror})") from error
    if not os.access(out, os.W_OK | os.X_OK):
        raise UsageError(f"{out}: cannot be written (Permission denied): give another `out` (--out)")
    return out


def _check_place(out: Path, force: bool, marker: str) -> None:
    """Raise UsageError where something is at `out` that may not be replaced."""
    if not os.path.lexists(out):
        return
    if not force:
        raise UsageError(f"{out} exists; pass `force` (--force) to replace it")
    try:
        present = [p.name for p in out.iterdir()]  # at once: another run may exchange it
    except FileNotFoundError:  # another run has just taken it out of the way
        return
    except NotADirectoryError:
        present = [out.name]
    if present and (marker not in present or (out / marker).is_dir()):
        raise UsageError(
            f"{out} exists and is no Headway bundle or package: it will not be replaced, not even with `force` (--force)"
        )


def _put_in_place(staging: Path, out: Path, force: bool, marker: str) -> None:
    """Give the finished directory its name. UsageError where another run has taken it meanwhile and `force` is not given."""
    for _ in range(_TRIES):
        try:
            if not os.path.lexists(out):
                move_to_free(staging, out)
            else:
                _check_place(out, force, marker)
                if not exchange(staging, out):
                    _replace_in_steps(staging, out)
            _flush_names(out.parent)
            return
        except (FileExistsError, FileNotFoundError):  # it came or went between the question and the step
            if not staging.is_dir():
                raise
    raise UsageError(f"{out}: other runs replace it all the time; nothing was written, run this again alone")


def _replace_in_steps(staging: Path, out: Path) -> None:
    """Rename the old, rename the new, remove the old. A crash after each step leaves one of them whole, see `restore`."""
    old = beside(out, OLD, secrets.token_hex(6))
    handle = lock(out)  # before it is renamed: nobody may take it for a killed run's
    try:
        out.rename(old)
        _flush_names(out.parent)
        try:
            move_to_free(staging, out)
        except OSError:
            with suppress(OSError):  # another run was faster
                move_to_free(old, out)
            raise
        finally:
            _flush_names(out.parent)
            if os.path.lexists(out):
                shutil.rmtree(old, ignore_errors=True)
    finally:
        if handle is not None:
            os.close(handle)


def _flush(folder: Path) -> None:
    """Have the disk write the content of all files and directories, before a name says that they are whole."""
    for path in folder.rglob("*"):
        if path.is_file():
            with path.open("rb") as file:
                os.fsync(file.fileno())
        elif path.is_dir():
            _flush_names(path)
    _flush_names(folder)


def _flush_names(folder: Path) -> None:
    try:
        handle = os.open(folder, os.O_RDONLY)
    except OSError:  # Windows opens no directories
        return
    try:
        os.fsync(handle)
    except OSError:  # some network file systems have no such thing for directories
        pass
    finally:
        os.close(handle)


def clear_abandoned(out: Path) -> None:
    """Remove what killed runs left beside `out`; a bundle that was being replaced when a run was killed is put back first."""
    restore(out)
    for kind in (OLD, _NEW):
        for folder in leftovers(out, kind):
            with abandoned(folder) as free:
                if free:
                    shutil.rmtree(folder, ignore_errors=True)
