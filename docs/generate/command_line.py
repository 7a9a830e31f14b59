"""The reference of the command line, from the typer application itself."""

from collections.abc import Iterator
from enum import Enum
from pathlib import Path
from typing import Any, Literal, get_args, get_origin

from . import markdown, places

PROGRAM = "headway"
_TYPES = {str: "text", int: "integer", float: "number", Path: "path", bool: "flag"}


def reference() -> str:
    """Return one section per command: usage, help, arguments and options."""
    from typer.main import get_command

    app = get_command(places.load(places.COMMAND_LINE))
    commands = list(_commands(app, PROGRAM))
    parts = [markdown.paragraphs(app.help), _table_of_commands(commands)]
    parts += [f"## Options of `{PROGRAM}` itself {{ #options }}", _options(app)] if _options(app) else []
    parts += [_section(path, command) for path, command, _ in commands]
    return markdown.join(*parts)


def _commands(group: Any, path: str, panel: str = "") -> Iterator[tuple[str, Any, str]]:
    """Yield every visible command below a group with its full name and its panel, in the order of the help text."""
    for name, command in group.commands.items():
        if command.hidden:
            continue
        own = _panel(command) or panel
        if getattr(command, "commands", None):
            yield from _commands(command, f"{path} {name}", own)
        else:
            yield f"{path} {name}", command, own


def _anchor(path: str) -> str:
    return path.replace(" ", "-")


def _table_of_commands(commands: list[tuple[str, Any, str]]) -> str:
    panels: dict[str, list[list[str]]] = {}
    for path, command, panel in commands:
        row = [f"[`{path}`](#{_anchor(path)})", markdown.sentence(markdown.paragraphs(command.help).split("\n\n")[0])]
        panels.setdefault(panel, []).append(row)
    parts = []
    for panel, rows in panels.items():
        parts += [f"**{panel}**"] if panel else []
        parts.append(markdown.table(["command", "does"], rows))
    return markdown.join(*parts)


def _section(path: str, command: Any) -> str:
    arguments = [p for p in command.params if p.param_type_name == "argument"]
    usage = " ".join([path, *(_placeholder(p) for p in arguments), "[OPTIONS]"])
    parts = [f"## {path} {{ #{_anchor(path)} }}", markdown.paragraphs(command.help), f"```text\n{usage}\n```"]
    if arguments:
        rows = [[f"`{_placeholder(p)}`", markdown.sentence(p.help), _default(p)] for p in arguments]
        parts.append(markdown.table(["argument", "meaning", "default"], rows))
    parts.append(_options(command))
    return markdown.join(*parts)


def _placeholder(argument: Any) -> str:
    name = (argument.metavar or argument.name).upper().strip("[]")
    return name if argument.required else f"[{name}]"


def _options(command: Any) -> str:
    """Return tables of a command's options, one per panel of its help text."""
    panels: dict[str, list[list[str]]] = {}
    for option in command.params:
        if option.param_type_name == "option" and not option.hidden:
            names = [*option.opts, *option.secondary_opts]
            cell = ", ".join(f"`{name}`" for name in sorted(names, key=lambda name: name.startswith("--")))
            row = [cell, _values(option), markdown.sentence(option.help), _default(option)]
            panels.setdefault(_panel(option) or "", []).append(row)
    parts = []
    for panel, rows in panels.items():
        parts += [f"**{panel}**"] if panel else []
        parts.append(markdown.table(["option", "value", "meaning", "default"], rows))
    return markdown.join(*parts)


def _panel(item: Any) -> str | None:
    panel = getattr(item, "rich_help_panel", None)
    return panel if isinstance(panel, str) else None


def _values(option: Any) -> str:
    """Return what an option takes: its choices, or its type with its bounds; empty for a flag."""
    if option.is_flag:
        return ""
    annotation = option.type_descriptor.annotation
    if option.multiple:
        annotation = get_args(annotation)[0]
    if get_origin(annotation) is Literal:
        text = ", ".join(f"`{choice}`" for choice in get_args(annotation))
    elif issubclass(annotation, Enum):
        text = ", ".join(f"`{member.value}`" for member in annotation)
    else:
        text = _TYPES.get(annotation, annotation.__name__)
    if option.min is not None and option.max is not None:
        text += f", {option.min} to {option.max}"
    elif option.min is not None:
        text += f", at least {option.min}"
    return text + ("; repeatable" if option.multiple else "")


def _default(parameter: Any) -> str:
    if parameter.required:
        return "required"
    if parameter.default in (None, False, [], ()):
        return ""
    return "on" if getattr(parameter, "is_flag", False) else f"`{parameter.default}`"
