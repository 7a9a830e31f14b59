"""How examples are run, and a classifier that one of them trains."""

import os
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path

import pytest

EXAMPLES = Path(__file__).parents[2] / "examples"

RunExample = Callable[..., subprocess.CompletedProcess[str]]


@pytest.fixture(scope="session")
def examples() -> Path:
    return EXAMPLES


@pytest.fixture(scope="session")
def run_example() -> RunExample:
    """Run an example with its arguments as its page says, in a process of its own; `stdin` is what it reads."""

    def run(name: str, *arguments: str | Path, stdin: str = "") -> subprocess.CompletedProcess[str]:
        environment = {k: v for k, v in os.environ.items() if k != "PYTHONSAFEPATH"} | {"OMP_NUM_THREADS": "1"}
        command = [sys.executable, str(EXAMPLES / name), *map(str, arguments)]
        return subprocess.run(command, input=stdin, capture_output=True, text=True, env=environment, timeout=600)

    return run


@pytest.fixture(scope="session")
def tickets(run_example: RunExample, tmp_path_factory: pytest.TempPathFactory) -> dict[str, Path]:
    """Return what the first two programs of the text classifier wrote: `model`, `train` and `test`.

    `few` is a folder with a part of `train.jsonl`, enough to compress with, and all of `test.jsonl`.
    """
    folder = tmp_path_factory.mktemp("tickets")
    written = {"model": folder / "model", "train": folder / "train.jsonl", "test": folder / "test.jsonl"}
    for name, arguments in (("tickets.py", [folder]), ("train.py", [written["train"], written["model"]])):
        done = run_example(f"text_classifier/{name}", *arguments)
        assert done.returncode == 0, done.stderr
    few = folder / "few"
    few.mkdir()
    (few / "train.jsonl").write_text("".join(written["train"].read_text().splitlines(keepends=True)[:120]))
    (few / "test.jsonl").write_bytes(written["test"].read_bytes())
    return written | {"few": few}
