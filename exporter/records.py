"""What a bundle's manifest records of its files."""

import hashlib
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from .errors import SourceError

MANIFEST = "headway.json"


def file_records(directory: Path) -> dict[str, dict[str, Any]]:
    """sha256 and bytes of every file below `directory`, the manifest itself left out."""
    records = {}
    for path in sorted(p for p in directory.rglob("*") if p.is_file() and p.name != MANIFEST):
        records[path.relative_to(directory).as_posix()] = {"sha256": _digest(path), "bytes": path.stat().st_size}
    return records


def check_records(directory: Path, records: Mapping[str, Mapping[str, Any]]) -> None:
    """Compares files with their sha256; SourceError names one that is missing or was changed."""
    for name, record in records.items():
        file = directory / name
        if not file.is_file():
            raise SourceError(f"{file}: missing; copy the bundle again")
        if _digest(file) != record["sha256"]:
            raise SourceError(f"{file}: changed since the bundle was made; copy it again, or make it again")


def _digest(path: Path) -> str:
    with path.open("rb") as file:
        return hashlib.file_digest(file, "sha256").hexdigest()
