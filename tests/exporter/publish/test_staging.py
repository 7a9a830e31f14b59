"""Output appears completely or not at all."""

import os
import shutil
import signal
import subprocess
import sys
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import pytest

from headway.errors import UsageError
from headway.exporter.publish import exchange
from headway.exporter.publish.staging import staged

HOLD = """
import sys, time
from pathlib import Path
from headway.exporter.publish.staging import staged
with staged(Path(sys.argv[1]), force=True) as staging:
    (staging / "half").write_text("half")
    print(staging, flush=True)
    time.sleep(600)
"""


def bundle(path: Path, text: str) -> None:
    path.mkdir(exist_ok=True)
    (path / "headway.json").write_text(text)


@pytest.fixture(params=["exchange", "steps"])
def how(request: pytest.FixtureRequest, monkeypatch: pytest.MonkeyPatch) -> str:
    """Replace in one step, or as on systems that have none."""
    if request.param == "steps":
        monkeypatch.setattr(exchange, "_call", lambda: None)
    elif exchange._call() is None:
        pytest.skip("this system has no renameat2")
    return request.param


def test_success_renames_into_place(how: str, tmp_path: Path) -> None:
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


def test_a_failure_at_the_last_step_leaves_what_was_there(how: str, tmp_path: Path) -> None:
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


def test_force_replaces_a_bundle_and_nothing_else(how: str, tmp_path: Path) -> None:
    bundle(tmp_path / "out", "old")
    with pytest.raises(UsageError, match="--force"), staged(tmp_path / "out", force=False):
        pass
    with staged(tmp_path / "out", force=True) as staging:
        bundle(staging, "new")
    assert (tmp_path / "out" / "headway.json").read_text() == "new"
    assert [p.name for p in tmp_path.iterdir()] == ["out"]
    (tmp_path / "photos").mkdir()
    (tmp_path / "photos" / "a.jpg").write_text("dear")
    with pytest.raises(UsageError, match="no Headway bundle"), staged(tmp_path / "photos", force=True):
        pass
    assert (tmp_path / "photos" / "a.jpg").read_text() == "dear"


def test_of_two_runs_the_second_is_refused_at_the_end_too(how: str, tmp_path: Path) -> None:
    out = tmp_path / "out"
    with pytest.raises(UsageError, match=r"out exists; pass `force`"), staged(out, force=False) as slow:
        bundle(slow, "slow")
        with staged(out, force=False) as fast:
            bundle(fast, "fast")
    assert (out / "headway.json").read_text() == "fast"
    assert [p.name for p in tmp_path.iterdir()] == ["out"]


def test_what_came_meanwhile_and_is_no_bundle_is_not_replaced(how: str, tmp_path: Path) -> None:
    out = tmp_path / "out"
    with pytest.raises(UsageError, match="no Headway bundle"), staged(out, force=True) as staging:
        bundle(staging, "new")
        out.mkdir()
        (out / "a.jpg").write_text("dear")
    assert [p.name for p in out.iterdir()] == ["a.jpg"] and [p.name for p in tmp_path.iterdir()] == ["out"]


def test_many_runs_with_force_leave_one_of_theirs(how: str, tmp_path: Path) -> None:
    def run(number: int) -> None:
        with staged(tmp_path / "out", force=True) as staging:
            bundle(staging, str(number))

    with ThreadPoolExecutor(8) as pool:
        list(pool.map(run, range(8)))
    assert (tmp_path / "out" / "headway.json").read_text() in map(str, range(8))
    run(8)  # in steps, one that was overtaken may leave what it took out of the way
    assert [p.name for p in tmp_path.iterdir()] == ["out"]


def test_what_a_dead_run_left_is_cleared(tmp_path: Path) -> None:
    bundle(tmp_path / ".out.new-0123456789ab", "half")
    bundle(tmp_path / ".out.old-0123456789ab", "saved")
    with pytest.raises(UsageError, match="exists"), staged(tmp_path / "out", force=False):
        pass
    assert (tmp_path / "out" / "headway.json").read_text() == "saved"
    assert [p.name for p in tmp_path.iterdir()] == ["out"]


def test_a_living_run_is_known_by_its_lock_and_a_killed_one_by_its_lack(tmp_path: Path) -> None:
    """The number of a process says nothing in another container, so none is part of a name."""
    process = subprocess.Popen([sys.executable, "-c", HOLD, str(tmp_path / "out")], stdout=subprocess.PIPE, text=True)
    assert process.stdout is not None
    theirs = Path(process.stdout.readline().strip())
    assert str(process.pid) not in theirs.name and (theirs / "half").is_file()
    with staged(tmp_path / "out", force=True) as staging:
        bundle(staging, "new")
        assert (theirs / "half").is_file()
    process.send_signal(signal.SIGKILL)
    process.communicate(timeout=60)
    assert (theirs / "half").is_file()
    with staged(tmp_path / "out", force=True) as staging:
        bundle(staging, "newer")
        assert not theirs.exists()
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


def test_what_another_run_just_took_away_is_no_obstacle(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Between the question whether something is there and what it is, another run may exchange it."""
    out = tmp_path / "out"
    bundle(out, "old")
    real = Path.iterdir

    def gone(path: Path):
        if path == out:
            raise FileNotFoundError(2, "No such file or directory", str(path))
        return real(path)

    with staged(out, force=True) as staging:
        bundle(staging, "new")
        monkeypatch.setattr(Path, "iterdir", gone)
    monkeypatch.undo()
    assert (out / "headway.json").read_text() == "new"
