"""The command line in this process: words in, what it printed and its exit code out."""

import subprocess
import sys
from collections.abc import Callable

import pytest

from headway.exporter.cli import app

Headway = Callable[..., subprocess.CompletedProcess[str]]


@pytest.fixture
def headway(monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]) -> Headway:
    """Run `headway` with words; errors become exit codes as in a process of its own."""

    monkeypatch.setenv("COLUMNS", "200")  # tables are not folded

    def run(*words: object) -> subprocess.CompletedProcess[str]:
        arguments = ["headway", *map(str, words)]
        monkeypatch.setattr(sys, "argv", arguments)
        capsys.readouterr()  # what the test itself has printed before
        code = app._run()
        printed = capsys.readouterr()
        return subprocess.CompletedProcess(arguments, code, printed.out, printed.err)

    return run
