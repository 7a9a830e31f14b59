"""Lay a directory over another: a model's files that lie in two places, or under other names, look like one directory."""

import atexit
import json
from collections.abc import Iterable, Mapping
from contextlib import ExitStack
from functools import cache
from pathlib import Path
from typing import Any

from ...scratch import scratch

_ORIGINS: dict[Path, Path] = {}


@cache
def _open() -> ExitStack:
    stack = ExitStack()
    atexit.register(stack.close)
    return stack


def overlay(
    directories: Iterable[Path],
    *,
    without: Iterable[str] = (),
    config: Mapping[str, Any] | None = None,
    origin: Path | None = None,
) -> Path:
    """Return a temporary directory with links to the files and folders of `directories`, those of the first one first.

    Names in `without` are left out; `config` becomes its config.json. It has the name of the first directory, and is removed when
    the process ends. `origin` is what the user knows it by, by default the first directory.
    """
    first, *others = directories
    folder = Path(_open().enter_context(scratch())) / (first.resolve().name or "model")
    folder.mkdir()
    _ORIGINS[folder] = origin or first
    if config is not None:
        (folder / "config.json").write_text(json.dumps(config), encoding="utf-8")
    gone = set(without)
    for directory in (first, *others):
        for entry in sorted(directory.iterdir()):
            if entry.name not in gone and not (folder / entry.name).exists():
                (folder / entry.name).symlink_to(entry.resolve())
    return folder


def origin_of(path: Path) -> Path:
    """Return what messages call a path in a directory that was laid over others: the file behind it.

    It is what the user gave, where the file was made here.
    """
    for folder in (path, *path.parents):
        if folder in _ORIGINS:
            first, *rest = path.relative_to(folder).parts or ("",)
            if (folder / first).is_symlink():
                return origin_of((folder / first).readlink().joinpath(*rest))
            return origin_of(_ORIGINS[folder])
    return path
