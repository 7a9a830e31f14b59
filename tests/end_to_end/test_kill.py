"""An export may be killed at any moment: what is at the output path is a whole bundle or nothing."""

import json
import os
import shutil
import signal
import subprocess
import sys
import time
from collections.abc import Iterator
from pathlib import Path

import onnx_ir as ir
import pytest

from headway import Bundle
from headway.exporter.capture.capture import capture_canonical

from tests.support import killed_exports, models


@pytest.fixture(scope="module")
def source(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Return an ONNX file that is read in no time: the canonical graph of a random BERT of one layer, beside its tokenizer."""
    directory = models.make_model(tmp_path_factory.mktemp("source"), num_hidden_layers=1)
    ir.save(capture_canonical(str(directory))[1], directory / "model.onnx")
    return directory / "model.onnx"


def arguments(source: Path, out: Path) -> list[str]:
    return ["export", str(source), "--out", str(out), "--force", "--quiet"]


def command(source: Path, out: Path) -> list[str]:
    return [sys.executable, "-m", "headway.exporter.cli.app", *arguments(source, out)]


def whole_or_nothing(out: Path) -> bool:
    """Return True where a bundle is there; raises where it is not whole."""
    if out.exists():
        Bundle.open(out).check_files()
    return out.exists()


class Exports:
    """Runs of one export command that may be killed, see `killed_exports`."""

    def __init__(self, source: Path, out: Path, how: str) -> None:
        self.process = subprocess.Popen(
            [sys.executable, killed_exports.__file__, str(out.parent), how, *arguments(source, out)],
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            text=True,
        )

    def run(self, kill_at: int | None = None) -> tuple[int, list[str]]:
        """Return the status of a run and the file operations that it did; `kill_at` is the number of the first it does not."""
        assert self.process.stdin is not None and self.process.stdout is not None
        self.process.stdin.write(f"{'' if kill_at is None else kill_at}\n")
        self.process.stdin.flush()
        status, operations = json.loads(self.process.stdout.readline())
        return status, operations


@pytest.fixture
def exports(source: Path, tmp_path: Path, request: pytest.FixtureRequest) -> Iterator[Exports]:
    exports = Exports(source, tmp_path / "out", request.param)
    yield exports
    exports.process.communicate(timeout=60)


@pytest.mark.parametrize("exports", ["exchange"], indirect=True)
def test_killed_before_each_file_operation(source: Path, exports: Exports, tmp_path: Path) -> None:
    """Between two operations nothing changes on the disk: these are all the moments that matter."""
    out = tmp_path / "out"
    status, from_nothing = exports.run()
    assert status == 0 and whole_or_nothing(out)
    status, replacing = exports.run()
    assert status == 0 and whole_or_nothing(out)
    assert len(replacing) > replacing.index("os.rename .out.new-TOKEN") > 10
    for kill_at in range(len(replacing)):
        assert_killed(exports, kill_at)
        assert whole_or_nothing(out)
    for path in tmp_path.iterdir():
        shutil.rmtree(path)
    for kill_at in range(len(from_nothing)):
        assert_killed(exports, kill_at)
        assert whole_or_nothing(out) == (kill_at > from_nothing.index("os.rename .out.new-TOKEN"))
    subprocess.run(command(source, out), check=True, timeout=300)
    assert whole_or_nothing(out)
    assert [p.name for p in tmp_path.iterdir()] == ["out"]


@pytest.mark.parametrize("exports", ["steps"], indirect=True)
def test_killed_where_two_names_are_not_exchanged_at_once(exports: Exports, tmp_path: Path) -> None:
    """The bundle before is out of its place for a moment; an opening puts it back, and so does the next run."""
    out = tmp_path / "out"
    for _ in range(2):
        status, replacing = exports.run()
        assert status == 0 and whole_or_nothing(out)
    swap = replacing.index("os.rename .out.new-TOKEN")
    for kill_at in range(swap - 1, len(replacing)):
        assert_killed(exports, kill_at)
        assert whole_or_nothing(out) == (kill_at != swap)
        assert Bundle.open(out).manifest.task == "feature-extraction"
    assert_killed(exports, swap)
    for kill_at in (-1, -2, -3):  # what is left is cleared, and the bundle before put back
        assert_killed(exports, kill_at)
        assert whole_or_nothing(out) == (kill_at != -1)


def assert_killed(exports: Exports, kill_at: int) -> None:
    status, operations = exports.run(kill_at)
    assert os.WTERMSIG(status) == signal.SIGKILL and len(operations) == max(kill_at, 0)


def heed_interrupts() -> None:
    """Undo what `nohup` and some test runners hand down: a process that is started ignoring interrupts."""
    signal.signal(signal.SIGINT, signal.SIG_DFL)


def test_interrupted_politely(source: Path, tmp_path: Path) -> None:
    out = tmp_path / "out"
    for signal_number in (signal.SIGINT, signal.SIGTERM):
        process = subprocess.Popen(command(source, out), stderr=subprocess.PIPE, text=True, preexec_fn=heed_interrupts)
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
        "from headway.exporter.cli import app as cli\n"
        "def app(**_):\n"
        "    exec('import os, signal; os.kill(os.getpid(), signal.SIGINT)')\n"
        "cli.app = app\n"
        "cli.main()\n"
    )
    done = subprocess.run(
        [sys.executable, "-m", "interrupted"],
        env=os.environ | {"PYTHONPATH": f"{tmp_path}{os.pathsep}{os.environ.get('PYTHONPATH', '')}"},
        capture_output=True,
        text=True,
        timeout=60,
        check=False,
        preexec_fn=heed_interrupts,
    )
    assert done.returncode == 5 and "interrupted" in done.stderr
