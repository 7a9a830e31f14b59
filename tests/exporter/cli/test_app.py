"""The command line as a whole: help, version, completion, and exit codes."""

import json
import re
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Any, Literal, get_origin

import pytest
from typer.main import get_command

from headway import __version__
from headway.exporter.cli import app as cli
from headway.exporter.export import Exported

from tests.support.command_line import Headway
from tests.support.deploy_time import BLOCKED

SHORT = {"--out": "-o", "--data": "-d", "--target": "-t", "--quiet": "-q", "--force": "-f", "--recipe": "-r"}
SHORT |= {"--against": "-a", "--speedup": "-s", "--port": "-p", "--version": "-V", "--help": "-h"}


def commands(group: Any, path: tuple[str, ...] = ()) -> Iterator[tuple[tuple[str, ...], Any]]:
    for name, command in group.commands.items():
        if getattr(command, "commands", None):
            yield from commands(command, (*path, name))
        else:
            yield (*path, name), command


ALL = dict(commands(get_command(cli.app)))


def test_the_version(headway: Headway) -> None:
    for option in ("--version", "-V"):
        done = headway(option)
        assert (done.returncode, done.stdout) == (0, f"headway {__version__}\n")


def test_help_stands_in_order_of_need(headway: Headway) -> None:
    shown = headway("--help")
    assert shown.returncode == 0
    headings = re.findall(r"^([A-Z].*):$", shown.stdout, re.MULTILINE)
    groups = ["Make a bundle", "Check and measure it", "Deploy it", "Pass it on", "Get started", "Look closer"]
    assert headings == [*groups, "Options"]
    names = re.findall(r"^  ([a-z]+)  ", shown.stdout, re.MULTILINE)
    assert names[:2] == ["export", "compress"] and set(names) == {path[0] for path in ALL}
    assert "Exit codes: 0 done" in shown.stdout
    assert shown.stdout.startswith("Usage: headway [OPTIONS] COMMAND")
    assert headway().stderr == shown.stdout


@pytest.mark.parametrize("path", ALL, ids=" ".join)
def test_every_option_is_explained(path: tuple[str, ...], headway: Headway) -> None:
    shown = headway(*path, "-h")
    assert shown.returncode == 0
    for parameter in ALL[path].params:
        assert parameter.help, parameter.name
        choices = get_origin(parameter.type_descriptor.annotation) is Literal
        assert parameter.metavar or parameter.is_flag or choices, f"{parameter.name} shows a bare type"
        long = [name for name in parameter.opts if name.startswith("--")]
        for name in long:
            assert name in shown.stdout
            assert SHORT.get(name) in (None, *parameter.opts)


def test_help_imports_nothing_heavy() -> None:
    script = (
        "import sys; sys.argv = ['headway', '--help']\n"
        "from headway.exporter.cli.app import main\n"
        "try: main()\n"
        "except SystemExit: print(*sys.modules, file=sys.stderr)"
    )
    done = subprocess.run([sys.executable, "-c", script], capture_output=True, text=True, check=True)
    heavy = {"rich", "numpy", "onnxruntime", "torch", "pydantic", "tokenizers"}
    assert "typer" in done.stderr.split() and not heavy & set(done.stderr.split())


def test_completion(headway: Headway, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]) -> None:
    assert "--install-completion" in headway("--help").stdout
    monkeypatch.setenv("_HEADWAY_COMPLETE", "complete_bash")
    for words, position, expected in (("headway comp", 1, "compress"), ("headway export --rec", 2, "--recipe")):
        monkeypatch.setenv("COMP_WORDS", words)
        monkeypatch.setenv("COMP_CWORD", str(position))
        with pytest.raises(SystemExit) as ended:
            headway()
        assert ended.value.code in (0, None)
        assert capsys.readouterr().out.split() == [expected]


@pytest.mark.parametrize(
    ("words", "says"),
    [
        (["frobnicate"], "No such command 'frobnicate'"),
        (["exprot"], "Did you mean 'export'"),
        (["compress", "x"], "Missing option '--data'"),
        (["bench", "x", "--rounds", "2"], "Invalid value for '--rounds'"),
        (["export"], "give a SOURCE, or a --recipe that names one"),
        (["export", "x"], "give --out, the directory of the bundle"),
        (["export", "x", "-o", "y", "--dtype", "int8"], "headway compress --quantize int8"),
    ],
)
def test_wrong_words_exit_with_2_and_say_what_is_expected(words: list[str], says: str, headway: Headway) -> None:
    done = headway(*words)
    assert done.returncode == 2 and says in done.stderr and done.stdout == ""


def test_without_the_export_extra_the_extra_is_named() -> None:
    blocked = BLOCKED.replace("'pydantic', ", "")  # typer itself may bring it
    script = (
        blocked + "import headway.exporter.cli.app as c; sys.argv = ['headway', 'export', 'x', '--out', 'y']; c.main()"
    )
    done = subprocess.run([sys.executable, "-c", script], capture_output=True, text=True, timeout=120)
    assert done.returncode == 4
    assert "headway[export]" in done.stderr


def command(*arguments: str | Path, **options) -> subprocess.CompletedProcess:
    return subprocess.run(
        [sys.executable, "-m", "headway.exporter.cli.app", *map(str, arguments)],
        capture_output=True,
        text=True,
        timeout=300,
        **options,
    )


def test_exit_codes_of_processes(bert: Path, tmp_path: Path) -> None:
    assert command("export", bert).returncode == 2
    assert command("frobnicate").returncode == 2
    assert command("bench", tmp_path).returncode == 3


@pytest.mark.slow
def test_exit_codes_of_the_command(bert: Path, bert_bundle: Exported, tmp_path: Path, headway: Headway) -> None:
    """Of processes of their own; what needs torch once more runs in this one."""
    assert command("export", bert, "--out", bert_bundle.path, "-q").returncode == 2
    assert command("export", bert).returncode == 2
    assert command("export", tmp_path / "x", "--out", tmp_path / "out").returncode == 3
    assert command("frobnicate").returncode == 2
    assert command("bench", tmp_path).returncode == 3
    done = command("export", bert, "--out", tmp_path / "out", "--json")
    assert done.returncode == 0, done.stderr
    assert json.loads(done.stdout)["parity"]["ok"]
    assert done.stderr == ""
    assert headway("verify", tmp_path / "out", "-q", "--against", bert).returncode == 0
    lost = headway("verify", tmp_path / "out", "-q")
    assert lost.returncode == 2 and "say where it is with --against" in lost.stderr
    shown = headway("inspect", tmp_path / "out")
    assert shown.returncode == 0
    assert "head_dim" in shown.stdout
    data = tmp_path / "out" / "model.onnx.data"
    data.write_bytes(data.read_bytes()[:-8] + b"\0" * 8)
    assert headway("verify", tmp_path / "out", "-q").returncode == 3


@pytest.mark.parametrize("words", [["--help"], ["inspect", "{bundle}"]], ids=lambda words: words[0])
def test_a_reader_that_stops_early_sees_no_traceback(words: list[str], bert_bundle: Exported) -> None:
    script = "from headway.exporter.cli.app import main; main()"
    command = [sys.executable, "-c", script, *(word.format(bundle=bert_bundle.path) for word in words)]
    process = subprocess.Popen(command, stdout=subprocess.PIPE, stderr=subprocess.PIPE)
    assert process.stdout is not None and process.stderr is not None
    process.stdout.close()
    assert process.wait(timeout=300) == 1
    assert process.stderr.read() == b""
