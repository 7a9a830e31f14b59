"""The command line in this process: what it prints and its exit code."""

import subprocess
import sys

import pytest

from headway.exporter.cli import app

from tests.support.command_line import Headway


@pytest.fixture
def headway(monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]) -> Headway:
    """Run `headway` with words; errors become exit codes as in a process of its own."""

    monkeypatch.setenv("COLUMNS", "200")  # tables are not folded

    def run(*words: object) -> subprocess.CompletedProcess[str]:
        arguments = ["headway", *map(str, words)]
        monkeypatch.setattr(sys, "argv", arguments)
        code = app._run()
        printed = capsys.readouterr()
        return subprocess.CompletedProcess(arguments, code, printed.out, printed.err)

    return run
