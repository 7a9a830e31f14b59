"""Help texts in plain text: commands and options under the headings of their groups, in the order in which they are declared.

typer draws such groups with rich alone, and importing rich would take longer than everything else that `headway --help` does.
"""

from collections.abc import Iterable
from typing import Any

from typer.core import TyperCommand, TyperGroup

WIDTH = 100
"""Columns of a help text on a wide terminal."""

CONTEXT = {"help_option_names": ["--help", "-h"], "max_content_width": WIDTH}


class PlainCommand(TyperCommand):
    """A command whose options stand under the headings of their groups."""

    def format_options(self, ctx: Any, formatter: Any) -> None:
        """Write arguments, then one section for each group of options; `--help` comes last."""
        _write_parameters(self, ctx, formatter)


class PlainGroup(TyperGroup):
    """A group whose commands stand under the headings of their groups, before its own options."""

    def format_options(self, ctx: Any, formatter: Any) -> None:
        """Write the commands, group by group, and then the options."""
        commands = [self.get_command(ctx, name) for name in self.list_commands(ctx)]
        shown = [command for command in commands if command is not None and not command.hidden]
        width = max((len(command.name or "") for command in shown), default=0)
        rows = [
            (_panel(command, "Commands"), (f"{command.name:<{width}}", command.get_short_help_str(200)))
            for command in shown
        ]
        _write_sections(formatter, rows)
        _write_parameters(self, ctx, formatter)


def _write_parameters(command: TyperCommand | TyperGroup, ctx: Any, formatter: Any) -> None:
    rows = []
    for parameter in command.get_params(ctx):
        record = parameter.get_help_record(ctx)
        if record is not None:
            default = "Arguments" if parameter.param_type_name == "argument" else "Options"
            rows.append((_panel(parameter, default), record))
    _write_sections(formatter, sorted(rows, key=lambda row: (row[0] != "Arguments", row[0] == "Options")))


def _panel(item: Any, default: str) -> str:
    panel = getattr(item, "rich_help_panel", None)
    return panel if isinstance(panel, str) else default


def _write_sections(formatter: Any, rows: Iterable[tuple[str, tuple[str, str]]]) -> None:
    """Write (heading, (name, text)) rows, each heading once, where its first row stands."""
    sections: dict[str, list[tuple[str, str]]] = {}
    for heading, record in rows:
        sections.setdefault(heading, []).append(record)
    for heading, records in sections.items():
        with formatter.section(heading):
            formatter.write_dl(records)
