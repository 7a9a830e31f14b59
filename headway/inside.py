"""Keep names of files inside their directory. Needs nothing but Python: a plan bundle carries this module."""

import stat
from pathlib import Path, PurePosixPath, PureWindowsPath

from .errors import SourceError

_LONGEST = 1024


def check_name(name: str) -> None:
    """Raise ValueError where `name` is not the relative name of a file, as "model.onnx" or "plots/latency.png"."""
    if len(name) > _LONGEST:
        raise ValueError(f"{name[:50]!r}… is longer than names of files are")
    parts = name.split("/")
    if not name or "\0" in name or "\\" in name or PurePosixPath(name).is_absolute() or PureWindowsPath(name).drive:
        raise ValueError(f"{name!r} is no relative name of a file")
    if any(part in ("", ".", "..") for part in parts):
        raise ValueError(f"{name!r} leads out of its directory, or is not written plainly")


class Folder:
    """A directory whose files are opened by name, and none outside it.

    Links may lead elsewhere in the directory. In a cache of the Hugging Face hub, where each file of `snapshots/REVISION` is a link
    into the `blobs` beside it, those of the same repository are followed too.
    """

    def __init__(self, directory: Path):
        self.directory = directory
        self._real = directory.resolve()
        self._blobs = _blobs_of(self._real)

    def file(self, name: str) -> Path:
        """Return the path of a plain file. SourceError where it is missing, no plain file, or outside the directory."""
        path = self.directory / name
        try:
            check_name(name)
            real = path.resolve(strict=True)
            about = real.stat()
        except (FileNotFoundError, NotADirectoryError):
            raise SourceError(f"{path}: missing; copy the bundle again") from None
        except (OSError, RuntimeError) as error:  # RuntimeError: links in a circle, before Python 3.13
            raise SourceError(f"{path}: cannot be read ({getattr(error, 'strerror', error)})") from error
        except ValueError as error:
            raise SourceError(f"{self.directory}: {error}: get the bundle again from who made it") from error
        if not real.is_relative_to(self._real) and real.parent != self._blobs:
            raise SourceError(f"{path}: a link that leads out of {self.directory}: put the file itself in its place")
        if not stat.S_ISREG(about.st_mode):
            raise SourceError(f"{path}: not a plain file; copy the bundle again")
        return path


def _blobs_of(real: Path) -> Path | None:
    """Return the folder of blobs where a directory lies in a snapshot of the hub's cache."""
    for place in (real, *real.parents):
        if place.parent.name == "snapshots" and place.parent.parent.name.startswith(
            ("models--", "datasets--", "spaces--")
        ):
            return place.parent.parent / "blobs"
    return None
