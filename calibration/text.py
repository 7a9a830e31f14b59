"""Text to check and measure on: the built-in lines, or the user's file."""

import csv
import hashlib
import json
from collections.abc import Iterable, Mapping, Sequence
from importlib.resources import files
from pathlib import Path

import numpy as np

from ..exporter.errors import UsageError

_COLUMNS = ("text", "sentence", "content", "review", "document")

_MEAN_LOG_LENGTH, _SPREAD = 3.2, 0.55
"""Short production text (queries, reviews, tickets): log-normal, median 24.5 tokens, mean 28.5, a 95th percentile of 61."""


def builtin_lines() -> list[str]:
    """About ninety original lines, 1 to 150 words, in two dozen languages, with code, numbers, links and emoji among them."""
    return _clean(files(__package__).joinpath("parity.txt").read_text(encoding="utf-8").splitlines())


def read_lines(path: Path) -> list[str]:
    """Texts of a `.txt` (one a line), `.csv` or `.jsonl` file, blank ones and repeats left out, order kept.

    Of a table the column `text` (or sentence, content, review, document) is read, or its only text column. Raises
    UsageError naming the file where it is missing, not UTF-8, empty, or has no such column.
    """
    try:
        if path.suffix in (".csv", ".jsonl", ".ndjson"):
            lines = _column(path, _rows(path))
        else:
            lines = path.read_text(encoding="utf-8").splitlines()
    except OSError as error:
        raise UsageError(f"{path}: {error.strerror}") from error
    except (UnicodeDecodeError, ValueError, csv.Error) as error:
        raise UsageError(f"{path}: cannot be read as {path.suffix.lstrip('.') or 'text'} in UTF-8 ({error})") from error
    cleaned = _clean(lines)
    if not cleaned:
        raise UsageError(f"{path}: holds no text")
    return cleaned


_LABELS = ("label", "labels", "class", "target")


def read_labelled(path: Path, classes: Mapping[str, int]) -> tuple[list[str], np.ndarray | None]:
    """Texts as `read_lines` gives them, and where the table has a column `label` (or labels, class, target) their classes.

    Labels are class numbers, or names found in `classes`. UsageError names a label that is neither; int64 `[texts]`, or
    None where there is no such column or no classes.
    """
    texts = read_lines(path)
    if not classes or path.suffix not in (".csv", ".jsonl", ".ndjson"):
        return texts, None
    rows = _rows(path)
    name = next((n for n in _LABELS if n in rows[0]), None)
    if name is None:
        return texts, None
    by_text: dict[str, int] = {}
    for text, row in zip(_column(path, rows), rows, strict=True):
        given = str(row.get(name))
        if given not in classes and not (given.isdigit() and int(given) in classes.values()):
            raise UsageError(f"{path}: label {given!r} is none of the model's classes {', '.join(classes)}")
        by_text.setdefault(text.strip(), classes[given] if given in classes else int(given))
    return texts, np.array([by_text[t] for t in texts], np.int64)


def _rows(path: Path) -> list[dict[str, object]]:
    with path.open(encoding="utf-8", newline="") as file:
        if path.suffix == ".csv":
            return list(csv.DictReader(file))
        return [json.loads(line) for line in file if line.strip()]


def _column(path: Path, rows: list[dict[str, object]]) -> list[str]:
    if not rows:
        return []
    if not all(isinstance(row, dict) for row in rows):
        raise UsageError(f"{path}: every line has to be an object with named fields")
    names = [n for n in rows[0] if isinstance(rows[0][n], str)]
    name = next((n for n in _COLUMNS if n in names), names[0] if len(names) == 1 else None)
    if name is None:
        raise UsageError(f"{path}: which column is the text? Found {names}; call it 'text'")
    return [str(row.get(name) or "") for row in rows]


def _clean(lines: Iterable[str]) -> list[str]:
    return list(dict.fromkeys(stripped for line in lines if (stripped := line.strip())))


def fingerprint(lines: Sequence[str]) -> str:
    """sha256 over the lines in their order."""
    return hashlib.sha256("\n".join(lines).encode()).hexdigest()


def mixed_lengths(count: int, longest: int, seed: int = 0) -> np.ndarray:
    """Sequence lengths in tokens, int64 `[count]`, drawn from the built-in distribution and kept within `[3, longest]`."""
    drawn = np.random.default_rng(seed).lognormal(_MEAN_LOG_LENGTH, _SPREAD, count)
    return np.clip(np.rint(drawn), min(3, longest), longest).astype(np.int64)
