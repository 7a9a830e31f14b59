"""The command line in this process: words in, what it printed and its exit code out."""

import functools
import subprocess
import sys
from collections.abc import Callable

import pytest
import typer.main

from headway.exporter.cli import app

Headway = Callable[..., subprocess.CompletedProcess[str]]

made_once = functools.cache(typer.main.get_command)
"""The commands of an app, which typer else makes anew from their functions' signatures for each run."""


@pytest.fixture
def headway(monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]) -> Headway:
    """Run `headway` with words; errors become exit codes as in a process of its own."""

    monkeypatch.setenv("COLUMNS", "200")  # tables are not folded
    monkeypatch.setattr(typer.main, "get_command", made_once)

    def run(*words: object) -> subprocess.CompletedProcess[str]:
        arguments = ["headway", *map(str, words)]
        monkeypatch.setattr(sys, "argv", arguments)
        capsys.readouterr()  # what the test itself has printed before
        code = app._run()
        printed = capsys.readouterr()
        return subprocess.CompletedProcess(arguments, code, printed.out, printed.err)

    return run
