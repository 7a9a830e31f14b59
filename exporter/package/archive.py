"""Pack a bundle into one file of the same bytes each time, and unpack such a file without trusting it.

The file is a plain tar, since most weights hardly compress. One whose name ends in .gz is compressed: weights of which most are zero
take a fraction of their bytes so. Order, times, owners and modes are fixed, so that the same bundle gives the
same bytes, a compressed one by the same zlib.
"""

import gzip
import io
import os
import tarfile
import zlib
from collections.abc import Iterator
from contextlib import ExitStack, contextmanager
from pathlib import Path
from typing import BinaryIO

from ...errors import SourceError, UsageError
from ...inside import check_name
from ...manifest import MANIFEST, Manifest, check_files, check_whole, read_checked
from ..publish.staging import staged

_MOST_FILES = 10_000
_BLOCK = 1 << 20
_MOST_COMPRESSED = 100
"""No bundle is so many times as large as its archive: what claims to be is there to fill a disk."""


def pack(bundle: Path, out: Path, *, force: bool = False) -> int:
    """Write the files of a bundle, those that its manifest lists, to the archive `out`; return its bytes.

    It is compressed where `out` ends in .gz or .tgz. Raise SourceError where a file is missing or changed, UsageError where `out` is
    there and `force` is not given.
    """
    manifest = read_checked(bundle)
    if out.exists() and not force:
        raise UsageError(f"{out} exists; give --force to replace it, or another --out")
    part = out.with_name(f".{out.name}.part-{os.getpid()}")
    try:
        with part.open("xb") as file:
            with ExitStack() as stack:
                target: BinaryIO = file
                if out.suffix in (".gz", ".tgz"):  # without a name and a time, which gzip would store
                    target = stack.enter_context(gzip.GzipFile("", "wb", 6, fileobj=file, mtime=0))  # type: ignore[assignment]
                archive = stack.enter_context(tarfile.open(fileobj=target, mode="w", format=tarfile.PAX_FORMAT))
                for name in [MANIFEST, *sorted(manifest.files)]:
                    _add(archive, bundle / name, name)
            file.flush()
            if _bytes_of(manifest) > _MOST_COMPRESSED * file.tell():
                raise UsageError(
                    f"{out}: the bundle shrinks more than {_MOST_COMPRESSED} times, which unpack takes for a trap: pack it without .gz"
                )
            os.fsync(file.fileno())
        part.replace(out)
    finally:
        part.unlink(missing_ok=True)
    return out.stat().st_size


def _add(archive: tarfile.TarFile, file: Path, name: str) -> None:
    entry = tarfile.TarInfo(name)  # without owner, time or anything else of this machine
    entry.mode = 0o644
    with file.open("rb") as content:
        entry.size = os.fstat(content.fileno()).st_size
        archive.addfile(entry, content)


def unpack(archive: Path, out: Path, *, force: bool = False) -> Manifest:
    """Unpack an archive into the directory `out`, completely or not at all, and compare all files with their sha256.

    Raise SourceError for an archive that is damaged, or holds anything but plain files that its manifest lists: no link, no device,
    no name that leads elsewhere, no file of another length. UsageError where `out` is there and `force` is not given.
    """
    try:
        with _opened(archive) as opened, staged(out, force=force) as staging:
            entries = _entries(archive, opened)
            _write(archive, opened, next(entries, None), MANIFEST, staging)
            manifest = Manifest.read(staging)
            if _bytes_of(manifest) > _MOST_COMPRESSED * archive.stat().st_size:
                raise SourceError(
                    f"{archive}: its files are more than {_MOST_COMPRESSED} times as large as it is, which no bundle's are: it would fill "
                    "the disk"
                )
            for entry in entries:
                record = manifest.files.get(entry.name)
                if record is None or entry.size != record["bytes"]:
                    raise SourceError(f"{archive}: {entry.name[:100]!r} is not what its manifest lists: get it again")
                _write(archive, opened, entry, entry.name, staging)
            check_whole(staging, manifest)
            check_files(staging, manifest)
    except (tarfile.TarError, EOFError, gzip.BadGzipFile, zlib.error) as error:
        raise SourceError(f"{archive}: no archive that headway pack wrote ({error}): get it again") from error
    except FileNotFoundError as error:
        raise UsageError(f"{archive}: no such file; give an archive that headway pack wrote") from error
    return manifest


def _bytes_of(manifest: Manifest) -> int:
    return sum(int(record["bytes"]) for record in manifest.files.values())


@contextmanager
def _opened(archive: Path) -> Iterator[tarfile.TarFile]:
    """Open an archive, compressed or not: its first bytes say which, whatever it is called."""
    with ExitStack() as stack:
        file: BinaryIO = stack.enter_context(archive.open("rb"))
        compressed = file.read(2) == b"\x1f\x8b"
        file.seek(0)
        if compressed:
            file = stack.enter_context(gzip.GzipFile(fileobj=file))  # type: ignore[assignment]
        yield stack.enter_context(tarfile.open(fileobj=file, mode="r:"))


def _entries(archive: Path, opened: tarfile.TarFile) -> Iterator[tarfile.TarInfo]:
    """Yield the entries, each a plain file with a name of its own."""
    seen: set[str] = set()
    for entry in opened:
        try:
            check_name(entry.name)
        except ValueError as error:
            raise SourceError(f"{archive}: {error}: get it again from who made it") from error
        if entry.type not in (tarfile.REGTYPE, tarfile.AREGTYPE) or entry.name in seen or len(seen) >= _MOST_FILES:
            raise SourceError(
                f"{archive}: {entry.name[:100]!r} is no plain file, or comes twice: get it again from who made it"
            )
        seen.add(entry.name)
        yield entry


def _write(archive: Path, opened: tarfile.TarFile, entry: tarfile.TarInfo | None, name: str, staging: Path) -> None:
    if entry is None or entry.name != name or (name == MANIFEST and entry.size > 1 << 26):
        raise SourceError(f"{archive}: {name} is not its first file: it is no archive that headway pack wrote")
    content = opened.extractfile(entry) or io.BytesIO()
    place = staging / name
    place.parent.mkdir(parents=True, exist_ok=True)
    with place.open("xb") as file:
        while block := content.read(_BLOCK):
            file.write(block)
