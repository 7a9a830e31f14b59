"""Read the labels of calibration data: a class, several labels, or values for each text, as the model's scoring asks for."""

import json
import math
from collections.abc import Mapping, Sequence
from pathlib import Path

import numpy as np

from ..errors import UsageError
from ..tasks import SINGLE_LABEL, Scoring
from .text_pairs import numbers_of

LABELS = ("label", "labels", "class", "target")
"""Columns that labels are read from, the first of them that is there."""

SCORES = (*LABELS, "score", "scores")
"""Those of values."""

_SEPARATORS = "|;,"

_RANGES = {"sigmoid": (0.0, 1.0), "tanh": (-1.0, 1.0)}
"""What values a model can give, by its activation."""


def columns_of(scoring: Scoring | None) -> tuple[str, ...]:
    """Return the names of columns that may hold labels."""
    return SCORES if scoring is not None and scoring.kind == "value" else LABELS


def parse_labels(
    path: Path, labels: Sequence[object], classes: Mapping[str, int], scoring: Scoring | None = None
) -> np.ndarray:
    """Return labels of a file as the model's `scoring` has them: class numbers int64 `[texts]`, or float32 `[texts, classes]`.

    Where several labels may hold, a text has a list of class names or numbers, or one of a zero or a one for each class; in
    plain strings they are separated by `|`, `;` or `,`. Values are numbers. UsageError names the first label that does not fit.
    """
    kind = (scoring or SINGLE_LABEL).kind
    if kind == "single-label":
        _check_complete(path, labels)
        return np.array([_class(path, label, classes) for label in labels], np.int64)
    if kind == "multi-label":
        rows = [_flags(path, label, classes) for label in labels]
    else:
        low, high = _RANGES.get((scoring or SINGLE_LABEL).activation, (-math.inf, math.inf))
        rows = [_values(path, label, max(len(classes), 1), low, high) for label in labels]
    return np.array(rows, np.float32)


def parse_relevance(path: Path, labels: Sequence[object]) -> np.ndarray:
    """Return how well texts answer their queries, float32 `[texts, 1]`, on any scale from 0. UsageError where one is no such number."""
    numbers = numbers_of(path, labels)
    if (numbers < 0).any():
        raise UsageError(
            f"{path}: a relevance is {numbers.min():g}; give numbers from 0, for texts that answer nothing"
        )
    return numbers.astype(np.float32)[:, None]


def _check_complete(path: Path, labels: Sequence[object]) -> None:
    """Raise UsageError naming the first text without a label; a missing number in a table of numbers is NaN."""
    row = next((i for i, label in enumerate(labels, 1) if label is None or label != label), None)
    if row is not None:
        raise UsageError(f"{path}: row {row} has no label: label every text, or leave the column out")


def _class(path: Path, label: object, classes: Mapping[str, int]) -> int:
    name = str(int(label) if isinstance(label, float) and label.is_integer() else label)
    if name in classes:
        return classes[name]
    if name.isdigit() and int(name) in classes.values():
        return int(name)
    raise UsageError(f"{path}: label {name!r} is none of the model's classes {', '.join(classes)}")


def _flags(path: Path, label: object, classes: Mapping[str, int]) -> list[float]:
    """Return one for every class that holds, else zero."""
    items = _items(label, classes)
    if len(items) == len(classes) > 1 and all(isinstance(i, bool | int | float) and i in (0, 1) for i in items):
        return [float(i) for i in items]  # type: ignore[arg-type]
    flags = [0.0] * len(classes)
    for item in items:
        flags[_class(path, item, classes)] = 1.0
    return flags


def _items(label: object, classes: Mapping[str, int]) -> list[object]:
    if label is None or isinstance(label, list | tuple | np.ndarray):
        return [] if label is None else list(label)
    if not isinstance(label, str) or label in classes:
        return [label]
    text = label.strip()
    if text.startswith("["):
        try:
            return list(json.loads(text))
        except ValueError:
            text = text.strip("[]")
    separator = next((s for s in _SEPARATORS if s in text), None)
    parts = text.split(separator) if separator else [text]
    return [part.strip().strip("'\"") for part in parts if part.strip()]


def _values(path: Path, label: object, count: int, low: float, high: float) -> list[float]:
    """Return the numbers of a label."""
    items = list(label) if isinstance(label, list | tuple | np.ndarray) else [label]
    try:
        values = [float(item) for item in items]  # type: ignore[arg-type]
    except (TypeError, ValueError) as error:
        raise UsageError(f"{path}: label {label!r} is no number; this model gives values") from error
    if len(values) != count:
        raise UsageError(f"{path}: label {label!r} has {len(values)} values; this model gives {count}")
    for value in values:
        if not math.isfinite(value) or not low <= value <= high:
            within = f"from {low:g} to {high:g}" if math.isfinite(low) else "that are finite"
            raise UsageError(f"{path}: label {label!r} is not a value of this model: give numbers {within}")
    return values
