"""Keep what a compression learned in a folder, under a name for all that it depends on: another run finds it and goes on from there.

Nothing is asked of the folder but speed. What is missing, damaged or cannot be written is made again.
"""

import hashlib
import json
import os
import secrets
import shutil
import warnings
import zipfile
from collections.abc import Callable, Mapping, Sequence
from contextlib import suppress
from dataclasses import dataclass
from datetime import UTC, datetime
from functools import cache
from pathlib import Path
from typing import Any, TypeVar

import numpy as np
import onnx_ir as ir

from ...calibration.batches import Batch
from ...errors import HeadwayWarning
from ...replaced import own_folder
from ..bench.measure import machine
from ..graph.edit import constant
from ..publish.exchange import move_to_free

T = TypeVar("T")
LIMIT_BYTES = 8 * 2**30
"""What was used least recently goes where a folder holds more than this."""

_VERSION = 2
_DAMAGE = (zipfile.BadZipFile, OSError, ValueError, KeyError, TypeError, AttributeError, EOFError)


def cache_folder(name: str) -> Path | None:
    """Return the folder for what is called so in the user's own cache; None for a user without a home folder."""
    given = os.environ.get("XDG_CACHE_HOME")
    try:
        return (Path(given) if given else Path.home() / ".cache") / "headway" / name
    except RuntimeError:
        return None


def default_folder() -> Path | None:
    """Return the folder in the user's own cache where none is given."""
    return cache_folder("work")


@cache
def _versions() -> dict[str, str]:
    """Return the versions of what computes: another may compute something else."""
    versions: dict[str, str] = machine()["versions"]
    return versions


def key_of(*parts: Any) -> str:
    """Return a name for all that something depends on: strings, numbers, and lists and mappings of them; versions come by themselves."""
    return hashlib.sha256(json.dumps([_VERSION, _versions(), *parts], sort_keys=True).encode()).hexdigest()[:32]


def digest_of_model(model: ir.Model) -> str:
    """Return sha256 of the nodes of a canonical model, and of its weights."""
    digest = hashlib.sha256()
    for node in model.graph:
        digest.update(ir.serde.serialize_node(node).SerializeToString(deterministic=True))
    for name in sorted(model.graph.initializers):
        array = constant(model.graph.initializers[name])
        if array is not None:
            digest.update(f"{name} {array.dtype} {array.shape}".encode())
            digest.update(np.ascontiguousarray(array).view(np.uint8).data if array.size else b"")
    return digest.hexdigest()


def digest_of_batches(batches: Sequence[Batch]) -> str:
    """Return sha256 of calibration data."""
    digest = hashlib.sha256()
    for batch in batches:
        for name, array in sorted(batch.feeds.items()):
            digest.update(f"{name} {array.dtype} {array.shape}".encode())
            digest.update(np.ascontiguousarray(array).data)
    return digest.hexdigest()


@dataclass(frozen=True)
class Entry:
    """Something that is kept: its kind, bytes, and when it was last used, in seconds since 1970."""

    path: Path
    nbytes: int
    used: float

    @property
    def kind(self) -> str:
        """What it is: graph, evidence, order, repair, recover, timing or fit."""
        return self.path.name.partition("-")[0]

    def to_json(self) -> dict[str, Any]:
        """Return the entry as plain values; the time in ISO 8601."""
        used = datetime.fromtimestamp(self.used, UTC).isoformat(timespec="seconds")
        return {"name": self.path.name, "kind": self.kind, "bytes": self.nbytes, "used": used}


class Work:
    """What earlier runs learned, in `folder`; nothing is kept where that is None. A HeadwayWarning, once, where it cannot be written."""

    def __init__(self, folder: Path | None):
        self.folder = folder
        self._warned = False

    def recall(self, kind: str, key: str, read: Callable[[Path], T]) -> T | None:
        """Return what `read` makes of the directory that was kept under a key; None where there is none, or a damaged one."""
        if self.folder is None:
            return None
        path = self.folder / f"{kind}-{key}"
        try:
            found = read(path)
            os.utime(path)
        except _DAMAGE:
            return None
        return found

    def keep(self, kind: str, key: str, write: Callable[[Path], None]) -> None:
        """Keep what `write` puts into a directory, under a key; the oldest goes where there is too much."""
        if self.folder is None:
            return
        try:
            self.folder.mkdir(parents=True, exist_ok=True)
            with own_folder(lambda: self._place() / f".new-{secrets.token_hex(6)}") as new:
                write(new)
                path = self.folder / f"{kind}-{key}"
                shutil.rmtree(path, ignore_errors=True)
                with suppress(FileExistsError):  # another run was faster, with the same
                    move_to_free(new, path)
            self._make_room()
        except OSError as error:
            if not self._warned:
                warnings.warn(
                    f"{self.folder}: what is learned cannot be kept ({error.strerror}), and another run learns it again: give "
                    "`work_dir` (--work), a folder that can be written",
                    HeadwayWarning,
                    stacklevel=2,
                )
            self._warned = True

    def forget(self, kind: str, key: str) -> None:
        """Remove what was kept under a key."""
        if self.folder is not None:
            shutil.rmtree(self.folder / f"{kind}-{key}", ignore_errors=True)

    def arrays(self, kind: str, key: str, make: Callable[[], Mapping[str, np.ndarray]]) -> dict[str, np.ndarray]:
        """Return arrays by name that were kept under a key; where there are none, make and keep them."""
        return self._kept(kind, key, lambda: dict(make()), _read_arrays, _write_arrays)

    def values(self, kind: str, key: str, make: Callable[[], Any]) -> Any:
        """Return plain values (of JSON) that were kept under a key; where there are none, make and keep them."""
        return self._kept(kind, key, make, _read_json, _write_json)

    def _kept(
        self,
        kind: str,
        key: str,
        make: Callable[[], T],
        read: Callable[[Path], T],
        write: Callable[[Path, T], None],
    ) -> T:
        found = self.recall(kind, key, read)
        if found is None:
            found = make()
            made = found
            self.keep(kind, key, lambda path: write(path, made))
        return found

    def known(self, kind: str, key: str) -> Any:
        """Return plain values that were kept under a key; None where there are none."""
        return self.recall(kind, key, _read_json)

    def keep_values(self, kind: str, key: str, made: Any) -> None:
        """Keep plain values (of JSON) under a key."""
        self.keep(kind, key, lambda path: _write_json(path, made))

    def entries(self) -> list[Entry]:
        """Return all that is kept, least recently used first."""
        found = []
        with suppress(OSError):
            for path in self._place().iterdir():
                with suppress(OSError):  # another run may be clearing up
                    size = sum(p.stat().st_size for p in path.iterdir())
                    found.append(Entry(path, size, path.stat().st_mtime))
        return sorted((e for e in found if not e.path.name.startswith(".")), key=lambda e: e.used)

    def clear(self) -> int:
        """Remove all that is kept; return its bytes."""
        entries = self.entries()
        for entry in entries:
            shutil.rmtree(entry.path, ignore_errors=True)
        return sum(e.nbytes for e in entries)

    def _place(self) -> Path:
        if self.folder is None:
            raise FileNotFoundError("there is no work folder")
        return self.folder

    def _make_room(self) -> None:
        entries = self.entries()
        total = sum(e.nbytes for e in entries)
        for entry in entries[:-1]:  # what was just kept stays, however large
            if total <= LIMIT_BYTES:
                return
            shutil.rmtree(entry.path, ignore_errors=True)
            total -= entry.nbytes


def _read_arrays(path: Path) -> dict[str, np.ndarray]:
    with np.load(path / "arrays.npz", allow_pickle=False) as stored:
        return dict(stored)


def _write_arrays(path: Path, arrays: dict[str, np.ndarray]) -> None:
    np.savez(path / "arrays.npz", **arrays)  # type: ignore[arg-type]


def _read_json(path: Path) -> Any:
    return json.loads((path / "values.json").read_text(encoding="utf-8"))


def _write_json(path: Path, values: Any) -> None:
    (path / "values.json").write_text(json.dumps(values), encoding="utf-8")
