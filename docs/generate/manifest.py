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
    """Return the records that fields hold, alone or in a list, each before those that it holds itself."""
    records: list[type] = []
    for root in (manifest, places.load(places.AGREEMENT)):
        _add_records(root, records)
    return records


def _add_records(record: type, records: list[type]) -> None:
    if typing.is_typeddict(record):
        records.append(record)
    for hint in typing.get_type_hints(record).values():
        for kind in (hint, *typing.get_args(hint)):
            if _is_record(kind) and kind not in records:
                if typing.is_typeddict(kind):
                    _add_records(kind, records)
                else:
                    records.append(kind)


def _is_record(kind: Any) -> bool:
    return isinstance(kind, type) and (dataclasses.is_dataclass(kind) or typing.is_typeddict(kind))


def _table(record: Any) -> str:
    hints = typing.get_type_hints(record)
    described = _descriptions(record)
    rows = []
    for name, optional in _fields(record).items():
        meaning = markdown.sentence(described.get(name)) or MISSING
        rows.append([f"`{name}`", _type(hints[name]), "" if optional else "yes", meaning])
    return markdown.table(["field", "value", "always there", "meaning"], rows)


def _fields(record: Any) -> dict[str, bool]:
    """Return the names of a record's fields, and whether each may be missing."""
    if typing.is_typeddict(record):
        return {name: name in record.__optional_keys__ for name in record.__annotations__}
    missing = dataclasses.MISSING
    return {f.name: f.default is not missing or f.default_factory is not missing for f in dataclasses.fields(record)}


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
    if origin is typing.Literal:
        return " or ".join(f"`{value}`" if value else "empty" for value in arguments)
    if arguments:
        return " or ".join(_type(argument) for argument in arguments)
    if _is_record(hint):
        return f"[{hint.__name__}](#{hint.__name__.lower()})"
    return {str: "text", int: "integer", float: "number", bool: "`true` or `false`", type(None): "`null`"}.get(
        hint, "any"
    )
