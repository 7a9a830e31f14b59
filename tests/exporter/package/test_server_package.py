"""Packages for servers appear whole or not at all, with checksums."""

import hashlib
from pathlib import Path

import pytest

from headway.errors import SourceError, UsageError
from headway.exporter.export import Exported
from headway.exporter.package.packager import SUMS_FILE
from headway.exporter.package.server_package import package_for_server


def test_all_files_are_counted_and_have_checksums(sentence_bundle: Exported, tmp_path: Path) -> None:
    done = package_for_server(sentence_bundle.path, "triton", tmp_path / "out")
    on_disk = {p.relative_to(done.path).as_posix(): p.stat().st_size for p in done.path.rglob("*") if p.is_file()}
    assert done.files == on_disk
    sums = dict(reversed(line.split("  ")) for line in (done.path / SUMS_FILE).read_text().splitlines())
    assert set(sums) == set(on_disk) - {SUMS_FILE}
    assert all(hashlib.sha256((done.path / name).read_bytes()).hexdigest() == digest for name, digest in sums.items())
    with pytest.raises(UsageError, match="exists"):
        package_for_server(sentence_bundle.path, "triton", tmp_path / "out")
    assert (
        package_for_server(sentence_bundle.path, "triton", tmp_path / "out", force=True).files.keys() == on_disk.keys()
    )


def test_what_is_no_bundle_leaves_nothing(tmp_path: Path) -> None:
    with pytest.raises(SourceError):
        package_for_server(tmp_path, "triton", tmp_path / "out")
    assert not (tmp_path / "out").exists()
