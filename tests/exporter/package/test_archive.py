"""Archives: the same bytes each time, and nothing but the bundle's files comes out."""

import gzip
import io
import json
import os
import shutil
import tarfile
from collections.abc import Callable
from pathlib import Path

import pytest

import headway
from headway.errors import SourceError, UsageError
from headway.exporter.export import Exported
from headway.exporter.package.archive import pack, unpack
from headway.manifest import MANIFEST, Manifest


@pytest.mark.parametrize("ending", ["tar", "tar.gz"])
def test_the_same_bundle_gives_the_same_bytes_and_comes_back(
    ending: str, sentence_bundle: Exported, tmp_path: Path
) -> None:
    copy = Path(shutil.copytree(sentence_bundle.path, tmp_path / "copy"))
    for path in copy.rglob("*"):
        os.utime(path, (1, 1))
    (copy / "notes.txt").write_text("not of the bundle")
    size = pack(sentence_bundle.path, tmp_path / f"a.{ending}")
    assert pack(copy, tmp_path / f"b.{ending}") == size
    assert (tmp_path / f"a.{ending}").read_bytes() == (tmp_path / f"b.{ending}").read_bytes()
    manifest = unpack(tmp_path / f"b.{ending}", tmp_path / "out")
    files = {p.relative_to(tmp_path / "out").as_posix() for p in (tmp_path / "out").rglob("*") if p.is_file()}
    assert files == {MANIFEST, *manifest.files}
    headway.open(tmp_path / "out").check_files()


def test_what_is_there_is_not_replaced(sentence_bundle: Exported, tmp_path: Path) -> None:
    pack(sentence_bundle.path, tmp_path / "a.tar")
    with pytest.raises(UsageError, match="--force"):
        pack(sentence_bundle.path, tmp_path / "a.tar")
    pack(sentence_bundle.path, tmp_path / "a.tar", force=True)
    unpack(tmp_path / "a.tar", tmp_path / "out")
    with pytest.raises(UsageError):
        unpack(tmp_path / "a.tar", tmp_path / "out")
    assert sorted(p.name for p in tmp_path.iterdir()) == ["a.tar", "out"]
    with pytest.raises(UsageError, match="no such file"):
        unpack(tmp_path / "none.tar", tmp_path / "other")


def test_a_damaged_bundle_is_not_packed(sentence_bundle: Exported, tmp_path: Path) -> None:
    copy = Path(shutil.copytree(sentence_bundle.path, tmp_path / "copy"))
    (copy / "config.json").write_text("{}")
    with pytest.raises(SourceError, match=r"config\.json"):
        pack(copy, tmp_path / "a.tar")
    assert not (tmp_path / "a.tar").exists()


def entry(name: str, content: bytes = b"x", **changes: object) -> tuple[tarfile.TarInfo, bytes]:
    info = tarfile.TarInfo(name)
    info.size = len(content)
    for key, value in changes.items():
        setattr(info, key, value)
    return info, content


Change = Callable[[list[tuple[tarfile.TarInfo, bytes]]], None]


@pytest.mark.parametrize(
    "change",
    [
        lambda entries: entries.append(entry("../outside.txt")),
        lambda entries: entries.append(entry("/tmp/outside.txt")),
        lambda entries: entries.append(entry("a/../../outside.txt")),
        lambda entries: entries.append(entry("extra.txt")),
        lambda entries: entries.append(entry("config.json")),
        lambda entries: entries.append(entry("link", b"", type=tarfile.SYMTYPE, linkname="/etc/passwd")),
        lambda entries: entries.append(entry("link", b"", type=tarfile.LNKTYPE, linkname="../x")),
        lambda entries: entries.append(entry("device", b"", type=tarfile.CHRTYPE)),
        lambda entries: entries.insert(1, entry("folder", b"", type=tarfile.DIRTYPE)),
        lambda entries: entries.pop(0),
        lambda entries: entries.pop(),
        lambda entries: entries.reverse(),
        lambda entries: entries.__setitem__(1, entry(entries[1][0].name, entries[1][1][::-1])),
    ],
)
def test_archives_that_hold_anything_else_are_refused(
    sentence_bundle: Exported, tmp_path: Path, change: Change
) -> None:
    pack(sentence_bundle.path, tmp_path / "good.tar")
    with tarfile.open(tmp_path / "good.tar") as good:
        entries = [(info, good.extractfile(info).read()) for info in good]  # type: ignore[union-attr]
    change(entries)
    with tarfile.open(tmp_path / "bad.tar", "w") as bad:
        for info, content in entries:
            bad.addfile(info, io.BytesIO(content))
    place = tmp_path / "place"
    place.mkdir()
    with pytest.raises(SourceError):
        unpack(tmp_path / "bad.tar", place / "out")
    assert not list(place.iterdir()) and not (tmp_path / "outside.txt").exists()


@pytest.mark.parametrize(
    "content",
    [
        b"",
        b"nonsense" * 1000,
        json.dumps({"a": 1}).encode(),
        gzip.compress(b"nonsense" * 1000, mtime=0),
        gzip.compress(b"", mtime=0)[:9],
        b"\x1f\x8b" + b"x" * 99,
    ],
    ids=["empty", "text", "json", "gzip", "half a gzip", "a gzip of nothing"],
)
def test_what_is_no_archive_is_refused(tmp_path: Path, content: bytes) -> None:
    (tmp_path / "bad.tar").write_bytes(content)
    with pytest.raises(SourceError):
        unpack(tmp_path / "bad.tar", tmp_path / "out")


@pytest.mark.parametrize("name", ["a.tar", "a.tgz"])
def test_an_archive_that_ends_early_is_refused(name: str, sentence_bundle: Exported, tmp_path: Path) -> None:
    size = pack(sentence_bundle.path, tmp_path / name)
    content = (tmp_path / name).read_bytes()
    (tmp_path / name).write_bytes(content[: size // 2])
    with pytest.raises(SourceError):
        unpack(tmp_path / name, tmp_path / "out")
    assert not (tmp_path / "out").exists()


def test_an_archive_that_would_fill_a_disk_is_refused(sentence_bundle: Exported, tmp_path: Path) -> None:
    """A gigabyte of zeros takes a megabyte of gzip."""
    manifest = Manifest.read(sentence_bundle.path)
    size = 1 << 26
    manifest.files["zeros.bin"] = {"sha256": "0" * 64, "bytes": size}
    with tarfile.open(tmp_path / "bad.tar.gz", "w:gz") as bad:
        for info, content in (entry(MANIFEST, manifest.to_json().encode()), entry("zeros.bin", bytes(size))):
            bad.addfile(info, io.BytesIO(content))
    assert (tmp_path / "bad.tar.gz").stat().st_size < size / 200
    with pytest.raises(SourceError, match="it would fill the disk"):
        unpack(tmp_path / "bad.tar.gz", tmp_path / "out")
