"""Output appears completely or not at all."""

import os
import shutil
from pathlib import Path

import pytest

from headway.errors import UsageError
from headway.exporter.publish.staging import staged


def bundle(path: Path, text: str) -> None:
    path.mkdir(exist_ok=True)
    (path / "headway.json").write_text(text)


def test_success_renames_into_place(tmp_path: Path) -> None:
    with staged(tmp_path / "deep" / "out", force=False) as staging:
        bundle(staging, "new")
        assert not (tmp_path / "deep" / "out").exists()
    assert (tmp_path / "deep" / "out" / "headway.json").read_text() == "new"
    assert [p.name for p in (tmp_path / "deep").iterdir()] == ["out"]


def test_an_error_leaves_what_was_there(tmp_path: Path) -> None:
    bundle(tmp_path / "out", "old")
    with pytest.raises(RuntimeError), staged(tmp_path / "out", force=True) as staging:
        bundle(staging, "half")
        raise RuntimeError
    assert (tmp_path / "out" / "headway.json").read_text() == "old"
    assert [p.name for p in tmp_path.iterdir()] == ["out"]


def test_a_failure_at_the_last_step_leaves_what_was_there(tmp_path: Path) -> None:
    """What was to take the place is gone, so that it cannot: the old bundle is back, and nothing else is left."""
    bundle(tmp_path / "out", "old")
    with pytest.raises((OSError, UsageError)), staged(tmp_path / "out", force=True) as staging:
        shutil.rmtree(staging)
    assert (tmp_path / "out" / "headway.json").read_text() == "old"
    assert [p.name for p in tmp_path.iterdir()] == ["out"]


def test_a_leftover_under_our_own_process_number_is_cleared(tmp_path: Path) -> None:
    """Numbers come again, in containers always the same ones."""
    bundle(tmp_path / f".out.new-{os.getpid()}", "half")
    bundle(tmp_path / f".out.old-{os.getpid()}", "saved")
    with staged(tmp_path / "out2", force=False) as staging:
        bundle(staging, "other")
    with pytest.raises(UsageError, match="exists"), staged(tmp_path / "out", force=False):
        pass
    assert (tmp_path / "out" / "headway.json").read_text() == "saved"
    assert sorted(p.name for p in tmp_path.iterdir()) == ["out", "out2"]


def test_force_replaces_a_bundle_and_nothing_else(tmp_path: Path) -> None:
    bundle(tmp_path / "out", "old")
    with pytest.raises(UsageError, match="--force"), staged(tmp_path / "out", force=False):
        pass
    with staged(tmp_path / "out", force=True) as staging:
        bundle(staging, "new")
    assert (tmp_path / "out" / "headway.json").read_text() == "new"
    (tmp_path / "photos").mkdir()
    (tmp_path / "photos" / "a.jpg").write_text("dear")
    with pytest.raises(UsageError, match="no Headway bundle"), staged(tmp_path / "photos", force=True):
        pass
    assert (tmp_path / "photos" / "a.jpg").read_text() == "dear"


def test_what_a_dead_run_left_is_cleared(tmp_path: Path) -> None:
    dead = 2**22 + 12345  # above the kernel's largest process id
    bundle(tmp_path / f".out.new-{dead}", "half")
    bundle(tmp_path / f".out.old-{dead}", "saved")
    with pytest.raises(UsageError, match="exists"), staged(tmp_path / "out", force=False):
        pass
    assert (tmp_path / "out" / "headway.json").read_text() == "saved"
    assert [p.name for p in tmp_path.iterdir()] == ["out"]


def test_a_parent_that_cannot_be_made_is_named(tmp_path: Path) -> None:
    (tmp_path / "file").write_text("")
    with pytest.raises(UsageError, match="file"), staged(tmp_path / "file" / "out", force=False):
        pass


@pytest.mark.skipif(os.geteuid() == 0, reason="root may write anywhere")
def test_an_unwritable_parent_is_named(tmp_path: Path) -> None:
    tmp_path.chmod(0o500)
    with pytest.raises(UsageError, match="cannot be written"), staged(tmp_path / "out", force=False):
        pass
