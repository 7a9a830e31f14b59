"""An export may be killed at any moment: what is at the output path is a whole bundle or nothing."""

import json
import os
import shutil
import signal
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Any

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


def whole_or_nothing(out: Path) -> bool:
    """Return True where a bundle is there; raises where it is not whole."""
    if out.exists():
        Bundle.open(out).check_files()
    return out.exists()


class Exports:
    """Runs of export commands that may be killed, see `killed_exports`."""

    def __init__(self, source: Path) -> None:
        self.source = source
        self.process = subprocess.Popen(
            [sys.executable, killed_exports.__file__],
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            text=True,
            preexec_fn=heed_interrupts,
        )

    def run(self, out: Path, *, steps: bool = False, kill_at: int | None = None, number: int = 0) -> dict[str, Any]:
        """Run an export to `out`; return its status, the file operations that it did, and what it said.

        `kill_at` is the number of the first operation that it does not do, and `number` that of a signal which it is sent.
        """
        assert self.process.stdin is not None and self.process.stdout is not None
        told = {"arguments": arguments(self.source, out), "place": str(out.parent), "steps": steps}
        self.process.stdin.write(json.dumps(told | {"kill_at": kill_at, "signal": number}) + "\n")
        self.process.stdin.flush()
        answer: dict[str, Any] = json.loads(self.process.stdout.readline())
        return answer

    def made(self, out: Path, *, steps: bool = False) -> list[str]:
        """Run an export to its end; return the file operations that it did."""
        done = self.run(out, steps=steps)
        assert done["status"] == 0 and whole_or_nothing(out), done["said"]
        return done["operations"]  # type: ignore[no-any-return]

    def killed(self, out: Path, kill_at: int, *, steps: bool = False) -> None:
        done = self.run(out, steps=steps, kill_at=kill_at)
        assert os.WTERMSIG(done["status"]) == signal.SIGKILL and len(done["operations"]) == max(kill_at, 0)


@pytest.fixture(scope="module")
def exports(source: Path) -> Iterator[Exports]:
    exports = Exports(source)
    yield exports
    exports.process.communicate(timeout=60)


def moments(operations: list[str], every: int) -> list[int]:
    """Return the operations to kill before: one of `every` so many, and all from the last before the bundle is put in its place."""
    swap = operations.index("os.rename .out.new-TOKEN")
    return [i for i in range(len(operations)) if i % every == 0 or i >= swap - 1]


@pytest.mark.parametrize("every", [3, pytest.param(1, marks=pytest.mark.slow)])
def test_killed_before_each_file_operation(every: int, exports: Exports, tmp_path: Path) -> None:
    """Between two operations nothing changes on the disk: these are all the moments that matter. Some of them are always tried."""
    out = tmp_path / "out"
    from_nothing, replacing = exports.made(out), exports.made(out)
    assert len(replacing) > replacing.index("os.rename .out.new-TOKEN") > 10
    for kill_at in moments(replacing, every):
        exports.killed(out, kill_at)
        assert whole_or_nothing(out)
    for path in tmp_path.iterdir():
        shutil.rmtree(path)
    for kill_at in moments(from_nothing, every):
        exports.killed(out, kill_at)
        assert whole_or_nothing(out) == (kill_at > from_nothing.index("os.rename .out.new-TOKEN"))
    exports.made(out)
    assert [p.name for p in tmp_path.iterdir()] == ["out"]


def test_killed_where_two_names_are_not_exchanged_at_once(exports: Exports, tmp_path: Path) -> None:
    """The bundle before is out of its place for a moment; an opening puts it back, and so does the next run."""
    out = tmp_path / "out"
    exports.made(out, steps=True)
    replacing = exports.made(out, steps=True)
    swap = replacing.index("os.rename .out.new-TOKEN")
    for kill_at in range(swap - 1, len(replacing)):
        exports.killed(out, kill_at, steps=True)
        assert whole_or_nothing(out) == (kill_at != swap)
        assert Bundle.open(out).manifest.task == "feature-extraction"
    exports.killed(out, swap, steps=True)
    for kill_at in (-1, -2, -3):  # what is left is cleared, and the bundle before put back
        exports.killed(out, kill_at, steps=True)
        assert whole_or_nothing(out) == (kill_at != -1)


def heed_interrupts() -> None:
    """Undo what `nohup` and some test runners hand down: a process that is started ignoring interrupts."""
    signal.signal(signal.SIGINT, signal.SIG_DFL)


@pytest.mark.parametrize("number", [signal.SIGINT, signal.SIGTERM])
def test_interrupted_politely(number: int, exports: Exports, tmp_path: Path) -> None:
    done = exports.run(tmp_path / "out", number=number)
    assert os.waitstatus_to_exitcode(done["status"]) == 5, done["said"]
    assert "interrupted" in done["said"]
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
