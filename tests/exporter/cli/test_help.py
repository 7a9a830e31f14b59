"""Plain help texts: a heading for each group, in the order of declaration."""

from typing import Annotated

import typer
from typer.testing import CliRunner

from headway.exporter.cli.help import CONTEXT, PlainCommand, PlainGroup

app = typer.Typer(cls=PlainGroup, rich_markup_mode=None, add_completion=False, context_settings=CONTEXT)


@app.command(cls=PlainCommand, rich_help_panel="First")
def boil(
    egg: Annotated[str, typer.Argument(metavar="EGG", help="Which one.")],
    minutes: Annotated[int, typer.Option("--minutes", metavar="N", help="How long.", rich_help_panel="Time")] = 6,
    salt: Annotated[bool, typer.Option("--salt", help="Add some.")] = False,
    seconds: Annotated[int, typer.Option("--seconds", metavar="N", help="And longer.", rich_help_panel="Time")] = 0,
) -> None:
    """Boil EGG in water that has come to the boil already, for as many minutes and seconds as it is told to, and no longer."""


@app.command(cls=PlainCommand)
def eat() -> None:
    """Eat."""


@app.command(cls=PlainCommand, hidden=True)
def secret() -> None:
    """Hide."""


def shown(*words: str) -> list[str]:
    result = CliRunner().invoke(app, [*words, "-h"])
    assert result.exit_code == 0
    return [line.rstrip() for line in result.output.splitlines()]


def headings(lines: list[str]) -> list[str]:
    return [line for line in lines if line.endswith(":") and not line.startswith((" ", "Usage"))]


def test_commands_stand_in_groups_before_the_options() -> None:
    lines = shown()
    assert headings(lines) == ["First:", "Commands:", "Options:"]
    text = " ".join(" ".join(lines).split())
    assert "for as many minutes and seconds as it is told to, and no longer." in text, "help of a command is not cut"
    assert "secret" not in text


def test_options_stand_in_groups_arguments_first() -> None:
    lines = shown("boil")
    assert headings(lines) == ["Arguments:", "Time:", "Options:"]
    time = lines[lines.index("Time:") :]
    assert [line.split()[0] for line in time[1:3]] == ["--minutes", "--seconds"]
    assert lines[-1].split()[0] in ("-h,", "--help")
