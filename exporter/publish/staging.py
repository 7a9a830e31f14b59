"""Write output completely or not at all: beside its place first, then renamed into it."""

import errno
import os
import shutil
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from ...errors import UsageError
from ...manifest import MANIFEST


@contextmanager
def staged(out: Path, *, force: bool, marker: str = MANIFEST) -> Iterator[Path]:
    """Yield a directory beside `out`; on success it becomes `out`, on any error it is removed and `out` is as before.

    Raise UsageError where `out` exists and `force` is not given, where its parent cannot be written, or the disk is full. What a
    killed run left is removed by the next. `marker`: a file that only output which may be replaced has.
    """
    out = out.resolve()
    if out.parent.is_dir():
        _clear_abandoned(out)
    if out.exists() and not force:
        raise UsageError(f"{out} exists; pass --force to replace it")
    if out.exists() and not (out / marker).is_file() and any(out.iterdir() if out.is_dir() else [out]):
        raise UsageError(
            f"{out} exists and is no Headway bundle or package: it will not be replaced, not even with --force"
        )
    try:
        out.parent.mkdir(parents=True, exist_ok=True)
        staging = _beside(out, "new", os.getpid())
        staging.mkdir()
    except OSError as error:
        raise UsageError(f"{out.parent}: cannot be written ({error.strerror})") from error
    try:
        yield staging
        _swap(staging, out)
    except OSError as error:
        if error.errno in (errno.ENOSPC, errno.EDQUOT):
            raise UsageError(f"{out.parent}: the disk is full; nothing was written") from error
        if error.errno in (errno.EROFS, errno.EACCES, errno.EPERM):
            raise UsageError(f"{out.parent}: cannot be written ({error.strerror})") from error
        raise
    finally:
        shutil.rmtree(staging, ignore_errors=True)


def output_folder(out: Path) -> Path:
    """Make `out` a directory where it is none, and return it. Raise UsageError where that is not possible."""
    try:
        out.mkdir(parents=True, exist_ok=True)
    except OSError as error:
        raise UsageError(f"{out}: cannot be made a directory ({error.strerror})") from error
    if not os.access(out, os.W_OK | os.X_OK):
        raise UsageError(f"{out}: cannot be written (Permission denied): give another --out")
    return out


def _beside(out: Path, kind: str, pid: int) -> Path:
    return out.parent / f".{out.name}.{kind}-{pid}"


def _swap(staging: Path, out: Path) -> None:
    for path in staging.rglob("*"):
        if path.is_file():
            with path.open("rb") as file:
                os.fsync(file.fileno())
    old = _beside(out, "old", os.getpid())
    if out.exists():
        out.rename(old)
    try:
        staging.rename(out)
    except OSError:
        if old.exists():
            old.rename(out)
        raise
    shutil.rmtree(old, ignore_errors=True)


def _clear_abandoned(out: Path) -> None:
    """Remove what killed runs left beside `out`; a bundle that was being replaced when a run was killed is restored."""
    for kind in ("old", "new"):
        prefix = f".{out.name}.{kind}-"
        for path in out.parent.glob(f"{prefix}*"):
            pid = path.name.removeprefix(prefix)
            if not pid.isdigit() or _alive(int(pid)):
                continue
            if kind == "old" and not out.exists():
                path.rename(out)
            else:
                shutil.rmtree(path, ignore_errors=True)


def _alive(pid: int) -> bool:
    try:
        os.kill(pid, 0)
    except ProcessLookupError:
        return False
    except PermissionError:
        return True
    return pid != os.getpid()
