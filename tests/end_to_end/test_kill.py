"""An export may be killed at any moment: what is at the output path is a whole bundle or nothing."""

import random
import signal
import subprocess
import sys
import time
from pathlib import Path

from headway import Bundle


def command(source: Path, out: Path) -> list[str]:
    return [
        sys.executable,
        "-m",
        "headway.exporter.cli.app",
        "export",
        str(source),
        "--out",
        str(out),
        "--force",
        "--quiet",
    ]


def whole_or_nothing(out: Path) -> bool:
    """True where a bundle is there; raises where it is not whole."""
    if out.exists():
        Bundle.open(out).check_files()
    return out.exists()


def test_killed_at_random_moments(bert: Path, tmp_path: Path) -> None:
    out = tmp_path / "out"
    start = time.perf_counter()
    subprocess.run(command(bert, out), check=True, timeout=300)
    usual = time.perf_counter() - start
    rng = random.Random(0)
    for attempt in range(20):
        if attempt == 10:  # the first ten replace a bundle, the others start from nothing
            subprocess.run(["rm", "-r", out], check=True)
        process = subprocess.Popen(command(bert, out), stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL)
        # Most of the time goes into imports; the second half is where files are written.
        time.sleep(rng.uniform(0.3 if attempt % 2 else 0.6, 1.05) * usual)
        process.send_signal(signal.SIGKILL)
        process.wait()
        whole_or_nothing(out)
    subprocess.run(command(bert, out), check=True, timeout=300)
    assert whole_or_nothing(out)
    assert [p.name for p in tmp_path.iterdir()] == ["out"]


def test_interrupted_politely(bert: Path, tmp_path: Path) -> None:
    out = tmp_path / "out"
    for signal_number in (signal.SIGINT, signal.SIGTERM):
        process = subprocess.Popen(command(bert, out), stderr=subprocess.PIPE, text=True)
        while not list(tmp_path.glob(".out.new-*")) and process.poll() is None:
            time.sleep(0.02)
        process.send_signal(signal_number)
        _, message = process.communicate(timeout=60)
        assert process.returncode == 5, message
        assert "interrupted" in message
        assert not list(tmp_path.iterdir())


def test_interrupted_in_generated_code(tmp_path: Path) -> None:
    """Python ends a module's process by the signal where the interrupt came to code compiled from text, as a dataclass's is."""
    (tmp_path / "interrupted.py").write_text(
        "from headway.exporter import cli\n"
        "def app(**_):\n"
        "    exec('import os, signal; os.kill(os.getpid(), signal.SIGINT)')\n"
        "cli.app = app\n"
        "cli.main()\n"
    )
    done = subprocess.run(
        [sys.executable, "-m", "interrupted"], cwd=tmp_path, capture_output=True, text=True, timeout=60, check=False
    )
    assert done.returncode == 5 and "interrupted" in done.stderr
