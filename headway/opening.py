"""Open a bundle whole: one bundle although another replaces it meanwhile, and no file but those that its manifest lists."""

import os
import threading
import time
from collections.abc import Callable, Collection
from pathlib import Path
from typing import Any, TypeVar

from .checked import shown
from .errors import HeadwayError, SourceError, UsageError
from .inside import Folder
from .manifest import MANIFEST, Manifest, check_digest
from .replaced import OLD, leftovers, real_path, restore

_TRIES = 50
_PAUSE = 0.005

Opened = TypeVar("Opened")


def folder_of(path: object, threads: object) -> Path:
    """Return the directory that is to be opened. UsageError where it is no path, or `threads` no number of threads."""
    if not isinstance(path, str | os.PathLike):
        raise UsageError(f"a bundle is opened by the path of its directory, not by {shown(path)}")
    if threads is not None and (not isinstance(threads, int) or isinstance(threads, bool) or threads < 1):
        raise UsageError(f"threads is {shown(threads)}; give at least 1, or None for as many as the runtime chooses")
    return Path(path)


def open_one(directory: Path, attempt: Callable[[], Opened]) -> Opened:
    """Return what `attempt` opens in a directory, tried again where the bundle there was replaced meanwhile.

    SourceError where it is replaced again and again.
    """
    for _ in range(_TRIES):
        restore(directory)
        with _Identity(directory) as identity:
            try:
                opened = attempt()
            except (HeadwayError, OSError):
                if identity.holds():
                    raise
            else:
                if identity.holds():
                    return opened
        time.sleep(_PAUSE)
    raise SourceError(f"{directory}: was replaced again and again while it was opened: open it again")


class _Identity:
    """Which bundle lies in a directory. The manifest is held open, so that no other file can take its number."""

    def __init__(self, directory: Path):
        self._path = directory / MANIFEST
        try:
            self._handle = os.open(self._path, os.O_RDONLY | getattr(os, "O_NONBLOCK", 0))
            self._then = os.fstat(self._handle)
        except OSError:
            self._handle = -1

    def __enter__(self) -> "_Identity":
        return self

    def __exit__(self, *_: object) -> None:
        if self._handle >= 0:
            os.close(self._handle)

    def _is_under_way(self) -> bool:
        """Return whether a replacement was seen: before its second step, or between the looks at the two names."""
        out = real_path(self._path.parent)
        return any(bool(leftovers(out, OLD)) or os.path.lexists(self._path) for _ in range(2))

    def holds(self) -> bool:
        """Return whether the same manifest is there, unchanged."""
        try:
            now = self._path.stat()
        except OSError:
            return self._handle < 0 and not self._is_under_way()
        if self._handle < 0:
            return not os.access(self._path, os.R_OK)  # it was not there, and is now; or it cannot be read
        then = self._then
        written_over = (now.st_mtime_ns, now.st_size) != (then.st_mtime_ns, then.st_size)
        return not written_over and os.path.samestat(now, then)


class Checksums:
    """Compare files with their sha256 in a thread, beside what opens them. Without `check`, only that they are listed and inside.

    Leaving the block waits for the thread. A file that was changed is the error, whatever the runtime said about it.
    """

    def __init__(self, directory: Path, manifest: Manifest, names: Collection[str], *, check: bool):
        if not manifest.files:
            raise SourceError(f"{directory / MANIFEST}: has no checksums; copy the bundle again, or make it again")
        folder = Folder(directory)
        self._files: list[tuple[Path, str]] = []
        for name in names:
            if name not in manifest.files:
                raise SourceError(
                    f"{directory / name}: not listed in {MANIFEST}: get the bundle again from who made it"
                )
            self._files.append((folder.file(name), manifest.files[name]["sha256"]))
        self._error: SourceError | None = None
        self._thread = threading.Thread(target=self._compare, name="headway-checksums") if check else None

    def __enter__(self) -> "Checksums":
        if self._thread is not None:
            self._thread.start()
        return self

    def __exit__(self, kind: type[BaseException] | None, error: BaseException | None, _: object) -> None:
        if self._thread is not None:
            self._thread.join()
        if self._error is not None and (error is None or isinstance(error, Exception)):
            raise self._error from error

    def _compare(self) -> None:
        try:
            for file, expected in self._files:
                check_digest(file, expected)
        except SourceError as error:
            self._error = error


def check_padding(directory: Path, manifest: Manifest, tokenizer: Any) -> None:
    """Raise SourceError where the id of padding is none of the tokenizer's: the model would have no row for it."""
    info = manifest.tokenizer
    if tokenizer.id_to_token(info.pad_id) is None:
        raise SourceError(
            f"{directory / MANIFEST}: tokenizer.pad_id: {info.pad_id} is no token of {info.file}: copy the bundle again"
        )


def check_tensors(directory: Path, manifest: Manifest, inputs: Collection[str], outputs: Collection[str]) -> None:
    """Raise SourceError where the artifact has other inputs or outputs than its manifest says."""
    for what, listed, there in (("inputs", manifest.inputs, inputs), ("outputs", manifest.outputs, outputs)):
        names = [tensor.name for tensor in listed]
        if sorted(names) != sorted(there):
            raise SourceError(
                f"{directory / MANIFEST}: the {what} are {', '.join(names)}, and the artifact's {', '.join(there)}: copy the bundle again"
            )
