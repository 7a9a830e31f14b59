"""Reads JSON that somebody else may have written, or damaged."""

import json
from pathlib import Path
from typing import Any

from .errors import SourceError


def read_json(path: Path) -> dict[str, Any]:
    """Reads a JSON object; SourceError names the file and the line that is broken."""
    try:
        content = json.loads(path.read_text(encoding="utf-8"))
    except OSError as error:
        raise SourceError(f"{path}: {error.strerror}") from error
    except ValueError as error:
        raise SourceError(f"{path}: not valid JSON ({error})") from error
    if not isinstance(content, dict):
        raise SourceError(f"{path}: a JSON object is expected")
    return content
