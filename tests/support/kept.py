"""Keep what takes long to make and is the same each time, for all tests and all processes that run them."""

import contextlib
import functools
import hashlib
import os
import pickle
import shutil
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest

from headway.exporter.tokenizer.reader import characters


def shared_folder(factory: pytest.TempPathFactory) -> Path:
    """Return the temporary folder that all processes of one run of pytest share."""
    base = factory.getbasetemp()
    return base.parent if "PYTEST_XDIST_WORKER" in os.environ else base


@contextlib.contextmanager
def _locked(path: Path) -> Iterator[None]:
    """Hold a lock that a process which ends, ends as well."""
    import fcntl

    with path.open("w") as file:
        fcntl.flock(file, fcntl.LOCK_EX)
        yield


def folder_of(place: Path, make: Callable[[Path], object]) -> Path:
    """Return the folder `place`, which one process makes: `make` gets an empty folder to write to. Nobody may change it afterwards."""
    with _locked(place.with_name(f"{place.name}.lock")):
        if not place.is_dir():
            part = place.with_name(f"{place.name}.part")
            shutil.rmtree(part, ignore_errors=True)
            part.mkdir()
            make(part)
            part.rename(place)
    return place


@contextlib.contextmanager
def tables_in(folder: Path) -> Iterator[None]:
    """Keep tables of characters in `folder`: each runs a tokenizer on all of Unicode."""
    folder.mkdir(parents=True, exist_ok=True)
    read = characters._read.__wrapped__

    @functools.cache
    def kept(*asked: Any) -> characters.Characters:
        path = folder / hashlib.sha256(repr(asked).encode()).hexdigest()
        with _locked(path.with_suffix(".lock")):
            if not path.is_file():
                table = read(*asked)
                part = path.with_suffix(".part")
                part.write_bytes(pickle.dumps(table))
                part.rename(path)
        table = pickle.loads(path.read_bytes())
        return table  # type: ignore[no-any-return]

    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(characters, "_read", kept)
        yield
