"""The reference of a bundle's manifest, from the dataclass that reads and writes it."""

import ast
import dataclasses
import inspect
import textwrap
import typing
from typing import Any

from . import markdown, places
from .recipe import MISSING


def reference() -> str:
    """Return a table of the manifest's fields, and one for each record that a field holds."""
    manifest = places.load(places.MANIFEST)
    parts = [markdown.paragraphs(manifest.__doc__), _table(manifest)]
    for record in _records(manifest):
        parts += [
            f"### {record.__name__} {{ #{record.__name__.lower()} }}",
            markdown.paragraphs(record.__doc__),
            _table(record),
        ]
    return markdown.join(*parts)


def _records(manifest: type) -> list[type]:
    """Return the dataclasses that fields hold, alone or in a list."""
    records: list[type] = []
    for hint in typing.get_type_hints(manifest).values():
        for kind in (hint, *typing.get_args(hint)):
            if dataclasses.is_dataclass(kind) and isinstance(kind, type) and kind not in records:
                records.append(kind)
    return records


def _table(record: Any) -> str:
    hints = typing.get_type_hints(record)
    described = _descriptions(record)
    rows = []
    for field in dataclasses.fields(record):
        missing = dataclasses.MISSING
        optional = field.default is not missing or field.default_factory is not missing
        meaning = markdown.sentence(described.get(field.name)) or MISSING
        rows.append([f"`{field.name}`", _type(hints[field.name]), "" if optional else "yes", meaning])
    return markdown.table(["field", "value", "always there", "meaning"], rows)


def _descriptions(record: type) -> dict[str, str]:
    """Return the strings that stand below the fields of a class, as its documentation of each."""
    body = ast.parse(textwrap.dedent(inspect.getsource(record))).body[0]
    assert isinstance(body, ast.ClassDef)
    descriptions = {}
    for field, below in zip(body.body, body.body[1:], strict=False):
        if (
            isinstance(field, ast.AnnAssign)
            and isinstance(field.target, ast.Name)
            and isinstance(below, ast.Expr)
            and isinstance(below.value, ast.Constant)
            and isinstance(below.value.value, str)
        ):
            descriptions[field.target.id] = below.value.value
    return descriptions


def _type(hint: Any) -> str:
    """Return a type as it stands in JSON, in words."""
    origin, arguments = typing.get_origin(hint), typing.get_args(hint)
    if origin is list:
        return f"list of {_type(arguments[0])}"
    if origin is dict:
        return "object" if arguments[1] is Any else f"object of {_type(arguments[1])}"
    if arguments:
        return " or ".join(_type(argument) for argument in arguments)
    if dataclasses.is_dataclass(hint):
        return f"[{hint.__name__}](#{hint.__name__.lower()})"
    return {str: "text", int: "integer", float: "number", bool: "`true` or `false`", type(None): "`null`"}.get(
        hint, "any"
    )
