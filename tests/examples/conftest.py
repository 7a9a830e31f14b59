"""How examples are run, and a classifier that one of them trains."""

import contextlib
import io
import os
import runpy
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path

import pytest

from tests.support.kept import folder_of, shared_folder

EXAMPLES = Path(__file__).parents[2] / "examples"

RunExample = Callable[..., subprocess.CompletedProcess[str]]


@pytest.fixture(scope="session")
def examples() -> Path:
    return EXAMPLES


@pytest.fixture(scope="session")
def run_example() -> RunExample:
    """Run an example with its arguments as its page says; `stdin` is what it reads.

    With `here` it runs in this process, which has imported torch already.
    """

    def run(name: str, *arguments: str | Path, stdin: str = "", here: bool = False) -> subprocess.CompletedProcess[str]:
        if here:
            return _run_here(EXAMPLES / name, [str(a) for a in arguments])
        environment = {k: v for k, v in os.environ.items() if k != "PYTHONSAFEPATH"} | {"OMP_NUM_THREADS": "1"}
        command = [sys.executable, str(EXAMPLES / name), *map(str, arguments)]
        return subprocess.run(command, input=stdin, capture_output=True, text=True, env=environment, timeout=600)

    return run


def _run_here(path: Path, arguments: list[str]) -> subprocess.CompletedProcess[str]:
    out, err = io.StringIO(), io.StringIO()
    code: object = 0
    with pytest.MonkeyPatch.context() as patch, contextlib.redirect_stdout(out), contextlib.redirect_stderr(err):
        patch.setattr(sys, "argv", [str(path), *arguments])
        try:
            runpy.run_path(str(path), run_name="__main__")
        except SystemExit as end:
            code = end.code
    assert isinstance(code, int | None)
    return subprocess.CompletedProcess([str(path), *arguments], code or 0, out.getvalue(), err.getvalue())


@pytest.fixture(scope="session")
def tickets(run_example: RunExample, tmp_path_factory: pytest.TempPathFactory) -> dict[str, Path]:
    """Return what the first two programs of the text classifier wrote: `model`, `train` and `test`.

    `few` is a folder with a part of `train.jsonl`, enough to compress with, and all of `test.jsonl`.
    """

    def make(folder: Path) -> None:
        for name, arguments, here in (
            ("tickets.py", [folder], False),
            ("train.py", [folder / "train.jsonl", folder / "model"], True),
        ):
            done = run_example(f"text_classifier/{name}", *arguments, here=here)
            assert done.returncode == 0, done.stderr
        few = folder / "few"
        few.mkdir()
        (few / "train.jsonl").write_text("".join((folder / "train.jsonl").read_text().splitlines(keepends=True)[:120]))
        (few / "test.jsonl").write_bytes((folder / "test.jsonl").read_bytes())

    folder = folder_of(shared_folder(tmp_path_factory) / "tickets", make)
    names = {"model": "model", "train": "train.jsonl", "test": "test.jsonl", "few": "few"}
    return {key: folder / name for key, name in names.items()}
