"""What a killed run took out of the way is put back, and what a living run holds is not."""

import fcntl
import os
import shutil
import threading
from pathlib import Path

import pytest

from headway.errors import UsageError
from headway.replaced import OLD, abandoned, beside, held, leftovers, lock, own_folder, restore


def test_the_old_one_is_put_back_where_nothing_is(tmp_path: Path) -> None:
    out = tmp_path / "out"
    old = beside(out, OLD, "0123")
    old.mkdir()
    assert leftovers(out, OLD) == [old] and leftovers(tmp_path / "no" / "where", OLD) == []
    handle = lock(old)
    assert handle is not None and not restore(out) and old.is_dir()  # its run lives
    with abandoned(old) as free:
        assert not free
    os.close(handle)
    assert restore(out) and out.is_dir() and not old.exists()
    old.mkdir()
    assert not restore(out) and old.is_dir()  # something is in its place


def test_a_link_to_a_bundle_is_restored_where_the_bundle_lies(tmp_path: Path) -> None:
    (tmp_path / "real").mkdir()
    (tmp_path / "link").symlink_to(tmp_path / "real" / "out")
    beside(tmp_path / "real" / "out", OLD, "0123").mkdir()
    assert restore(tmp_path / "link") and (tmp_path / "real" / "out").is_dir()


def test_a_directory_is_held_until_the_block_ends(tmp_path: Path) -> None:
    with held(tmp_path, "another runs there"):
        with pytest.raises(UsageError, match="another runs there"), held(tmp_path, "another runs there"):
            pytest.fail("it was held twice")
        assert lock(tmp_path) is None
    with pytest.raises(KeyError), held(tmp_path, "another runs there"):
        raise KeyError
    with held(tmp_path, "it was let go"):
        pass


def test_a_directory_that_is_gone_has_no_lock(tmp_path: Path) -> None:
    assert lock(tmp_path / "none") is None


def test_a_directory_of_one_s_own_is_removed_also_where_it_was_interrupted(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    with own_folder(lambda: tmp_path / "own") as folder:
        assert folder.is_dir() and lock(folder) is None
    assert not folder.exists()

    def interrupted(_: Path, *, wait: bool) -> None:
        raise KeyboardInterrupt

    monkeypatch.setattr("headway.replaced.lock", interrupted)
    with pytest.raises(KeyboardInterrupt), own_folder(lambda: tmp_path / "own"):
        pass
    assert not list(tmp_path.iterdir())


def test_a_name_that_is_taken_is_left_alone(tmp_path: Path) -> None:
    (tmp_path / "a").mkdir()
    names = iter([tmp_path / "a", tmp_path / "b"])
    with own_folder(lambda: next(names)) as folder:
        assert folder == tmp_path / "b"
    assert [p.name for p in tmp_path.iterdir()] == ["a"]


def test_a_directory_that_another_run_is_about_to_clear_is_not_taken(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    names = iter([tmp_path / "a", tmp_path / "b"])

    def late(folder: Path, *, wait: bool = False) -> int | None:
        if folder.name == "a":  # the other run locks it between the two steps, and removes it a little later
            other = os.open(folder, os.O_RDONLY)
            fcntl.flock(other, fcntl.LOCK_EX)
            threading.Timer(0.1, lambda: (shutil.rmtree(folder), os.close(other))).start()
        return lock(folder, wait=wait)

    monkeypatch.setattr("headway.replaced.lock", late)
    with own_folder(lambda: next(names)) as folder:
        assert folder == tmp_path / "b"
