"""Read JSON files that may be damaged or written by someone else."""

import json
from pathlib import Path
from typing import Any

from .errors import SourceError


def read_json(path: Path) -> dict[str, Any]:
    """Read a JSON object; SourceError names the file and the line that is broken."""
    try:
        content = json.loads(path.read_text(encoding="utf-8"))
    except OSError as error:
        raise SourceError(f"{path}: {error.strerror}") from error
    except (ValueError, RecursionError) as error:
        raise SourceError(f"{path}: not valid JSON ({error})") from error
    if not isinstance(content, dict):
        raise SourceError(f"{path}: a JSON object is expected")
    return content
