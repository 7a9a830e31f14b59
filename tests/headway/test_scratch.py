"""Temporary directories go when they are done, and those of killed runs when the next run comes."""

import signal
import subprocess
import sys
import tempfile
from pathlib import Path

import pytest

from headway.scratch import PREFIX, clear_abandoned, scratch

HOLD = """
import sys, tempfile, time
tempfile.tempdir = sys.argv[1]
from headway.scratch import scratch
with scratch() as folder:
    open(folder + "/half", "w").close()
    print(folder, flush=True)
    time.sleep(600)
"""


@pytest.fixture
def place(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    monkeypatch.setattr(tempfile, "tempdir", str(tmp_path))
    return tmp_path


def test_a_directory_goes_at_the_end(place: Path) -> None:
    with pytest.raises(RuntimeError), scratch() as folder:
        (Path(folder) / "file").write_text("x")
        raise RuntimeError
    assert not list(place.iterdir())


def test_living_runs_keep_theirs_and_killed_ones_do_not(place: Path) -> None:
    (place / "headway-scratch").mkdir()
    (place / "other").mkdir()
    (place / f"{PREFIX}link").symlink_to(place / "other")
    process = subprocess.Popen([sys.executable, "-c", HOLD, str(place)], stdout=subprocess.PIPE, text=True)
    assert process.stdout is not None
    theirs = Path(process.stdout.readline().strip())
    clear_abandoned.cache_clear()
    with scratch() as mine:
        assert (theirs / "half").is_file() and Path(mine).is_dir()
    process.send_signal(signal.SIGKILL)
    process.communicate(timeout=60)
    clear_abandoned.cache_clear()
    with scratch():
        assert not theirs.exists()
    assert sorted(p.name for p in place.iterdir()) == ["headway-scratch", f"{PREFIX}link", "other"]
