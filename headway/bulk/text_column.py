"""Find the column of a table that holds the text."""

from collections.abc import Sequence
from pathlib import Path

from ..errors import UsageError

NAMES = ("text", "sentence", "content", "review", "document")
"""What columns of text are usually called, the likeliest first."""


def text_column(path: Path, names: Sequence[str], texts: Sequence[str], wanted: str | None) -> str:
    """Return the column that holds the text: `wanted`, one of the usual names, or the only one of `texts`, the columns of strings.

    UsageError where `wanted` is none of `names`, or it cannot be told which column is meant.
    """
    if wanted is not None:
        if wanted not in names:
            raise UsageError(f"{path}: there is no column {wanted!r}; found {', '.join(names)}")
        return wanted
    name = next((n for n in NAMES if n in texts), texts[0] if len(texts) == 1 else None)
    if name is None:
        raise UsageError(
            f"{path}: which column is the text? Found {list(texts)}; call it 'text', or name one as `column` (--column)"
        )
    return name
