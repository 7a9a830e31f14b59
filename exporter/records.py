"""What a bundle's manifest records of its files."""

import hashlib
from pathlib import Path
from typing import Any

MANIFEST = "headway.json"


def file_records(directory: Path) -> dict[str, dict[str, Any]]:
    """sha256 and bytes of every file below `directory`, the manifest itself left out."""
    records = {}
    for path in sorted(p for p in directory.rglob("*") if p.is_file() and p.name != MANIFEST):
        with path.open("rb") as file:
            digest = hashlib.file_digest(file, "sha256").hexdigest()
        records[path.relative_to(directory).as_posix()] = {"sha256": digest, "bytes": path.stat().st_size}
    return records
