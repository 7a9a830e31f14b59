"""Under which terms a source model may be passed on, as far as the source says so itself. Nothing is guessed."""

import re
from pathlib import Path

LICENSE_FILES = ("LICENSE", "LICENSE.txt", "LICENSE.md", "LICENCE", "COPYING", "NOTICE")
_CARD = "README.md"


def declared_license(directory: Path | None) -> str | None:
    """The line `license: …` in the head of a model card (YAML between two lines `---`), as `apache-2.0`; None without one."""
    path = directory / _CARD if directory is not None else None
    if path is None or not path.is_file():
        return None
    parts = re.split(r"^---\s*$", path.read_text(encoding="utf-8", errors="replace"), maxsplit=2, flags=re.MULTILINE)
    if len(parts) < 3 or parts[0].strip():
        return None
    found = re.search(r"^license:[ \t]*[\"']?([^\"'\s#]+)", parts[1], flags=re.MULTILINE)
    return found.group(1) if found else None
