"""What the modules of commands share: reading values, and printing. Needs nothing heavy."""

import json
from collections.abc import Iterable
from importlib.util import find_spec
from pathlib import Path
from typing import Any

from ...errors import UsageError


def check_installed(*names: str) -> None:
    """Raise ModuleNotFoundError for the first library that is missing. None is imported: some read their settings then."""
    for name in names:
        if find_spec(name) is None:
            raise ModuleNotFoundError(name, name=name)


def console() -> Any:
    """Return a console of rich on standard output that prints text as it is: brackets and colons in paths stay."""
    from rich.console import Console

    return Console(highlight=False, markup=False, emoji=False)


def print_json(value: object) -> None:
    """Print a value as one line of JSON."""
    print(json.dumps(value, ensure_ascii=False))


def print_paths(paths: Iterable[Path]) -> None:
    """Print one path on each line, never broken."""
    for path in paths:
        console().print(str(path), soft_wrap=True)


def read_number(text: str | None, unit: str, option: str) -> float | None:
    """Return a number that is given with its unit or without. Raises UsageError naming the option."""
    if text is None:
        return None
    try:
        return float(text.removesuffix(unit).removesuffix(unit.rstrip("s")))
    except ValueError as error:
        raise UsageError(f"{option} {text!r}: a number of {unit.strip('-')} is expected, as 8{unit}") from error


def read_shapes(texts: Iterable[str] | None) -> list[tuple[int, int]]:
    """Return (texts, tokens) of each `--shape`. Raises UsageError."""
    return [_read_shape(text) for text in texts or ()]


def _read_shape(text: str) -> tuple[int, int]:
    try:
        batch, length = (int(n) for n in text.lower().split("x"))
    except ValueError as error:
        raise UsageError(f"--shape {text!r}: texts x tokens is expected, as 8x128") from error
    if batch < 1 or length < 1:
        raise UsageError(f"--shape {text!r}: both numbers have to be at least 1, as 8x128")
    return batch, length
