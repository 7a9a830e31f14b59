"""Temporary directories that a killed run does not leave for good: the next run knows them by the lack of a lock."""

import os
import secrets
import shutil
import tempfile
from collections.abc import Iterator
from contextlib import contextmanager
from functools import cache
from pathlib import Path

from .replaced import abandoned, own_folder

PREFIX = "headway-scratch-"


@contextmanager
def scratch() -> Iterator[str]:
    """Yield the path of a new temporary directory, which is removed at the end. What killed runs left is removed first."""
    clear_abandoned(tempfile.gettempdir())
    place = Path(tempfile.gettempdir())
    with own_folder(lambda: place / f"{PREFIX}{secrets.token_hex(6)}", 0o700) as folder:
        yield str(folder)


@cache
def clear_abandoned(place: str) -> None:
    """Remove the directories of this user's killed runs from a directory; once in each process."""
    for folder in Path(place).glob(f"{PREFIX}*"):
        try:
            own = folder.lstat().st_uid == os.getuid() if hasattr(os, "getuid") else False
        except OSError:
            continue
        if own and folder.is_dir() and not folder.is_symlink():
            with abandoned(folder) as free:
                if free:
                    shutil.rmtree(folder, ignore_errors=True)
