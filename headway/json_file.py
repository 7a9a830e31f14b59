"""Read JSON files that may be damaged or written by someone else. Needs nothing but Python: a plan bundle carries this module."""

import json
import stat
from pathlib import Path
from typing import Any

from .errors import SourceError

MOST_BYTES = 1 << 28
"""The largest file that is read: tokenizers of some 10^6 tokens are smaller."""

MOST_DEPTH = 64
"""The deepest nesting that is read: a few levels are usual, and Python's own limit ends in a traceback."""


def read_json(path: Path) -> dict[str, Any]:
    """Read a JSON object; SourceError names the file and the line that is broken."""
    content = read_any_json(path)
    if not isinstance(content, dict):
        raise SourceError(f"{path}: a JSON object is expected")
    return content


def read_any_json(path: Path, most_bytes: int = MOST_BYTES) -> Any:
    """Read a JSON value of at most `most_bytes`; SourceError names the file and the line that is broken."""
    try:
        about = path.stat()
        if not stat.S_ISREG(about.st_mode):
            raise SourceError(f"{path}: not a plain file")
        if about.st_size > most_bytes:
            raise SourceError(
                f"{path}: {about.st_size / 1e6:,.0f} MB of JSON, and at most {most_bytes / 1e6:,.0f} are read"
            )
        return parse_json(path.read_bytes())
    except OSError as error:
        raise SourceError(f"{path}: {error.strerror}") from error
    except (ValueError, RecursionError) as error:
        raise SourceError(f"{path}: not valid JSON ({error})") from error


def parse_json(text: bytes) -> Any:
    """Return the value of JSON in UTF-8. Raise ValueError where it is broken, or deeper than `MOST_DEPTH`."""
    try:
        value = json.loads(text.decode("utf-8"))
    except RecursionError:
        raise ValueError(f"nested deeper than {MOST_DEPTH} levels") from None
    if b"\\ud" in text.lower():  # halves of characters cannot be printed or written; pairs are read as one by now
        json.dumps(value, ensure_ascii=False).encode("utf-8")
    level, depth = [value], 0
    while level := [
        inner
        for item in level
        if isinstance(item, dict | list)
        for inner in (item.values() if isinstance(item, dict) else item)
        if isinstance(inner, dict | list)
    ]:
        depth += 1
        if depth >= MOST_DEPTH:
            raise ValueError(f"nested deeper than {MOST_DEPTH} levels")
    return value
