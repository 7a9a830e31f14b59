"""Read the text that comes with a source: as single texts, or as pairs where the source reads pairs."""

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from ...calibration.corpus import TextFile, read_files
from ...calibration.text_pairs import Reading
from ...tasks import Scoring
from ..source.scoring import label_names, scoring_of
from ..source.source import Source, architectures

_BY_TASK: Mapping[str, Reading] = {
    "text-classification": "pairs",
    "question-answering": "rankings",
    "multiple-choice": "rankings",
    "sentence-embedding": "parts",
    "feature-extraction": "parts",
    "sparse-embedding": "parts",
    "multi-vector": "parts",
}


def read_source_texts(
    source: Source, paths: Sequence[Path], column: str | None, *, labels: bool = True
) -> list[TextFile]:
    """Return the texts of files as the source's task reads them, and with `labels` those that its classes have.

    A table of two texts a row is pairs to a classifier, questions with contexts to a model that answers them, queries with texts to a
    reranker, and single texts to a model that embeds them. Raises UsageError as `read_files` does.
    """
    classes = class_names(source.config) if labels else {}
    return read_files(paths, classes, column, scoring_of(source), reading_of(source))


def reading_of(source: Source) -> Reading | None:
    """Return how a source reads tables of two texts a row; None where its task has no use for them."""
    return reading_for(source.task, scoring_of(source), len(label_names(source.config)))


def reading_for(task: str, scoring: Scoring | None, columns: int) -> Reading | None:
    """Return what `reading_of` does, for a task whose logits have so many `columns`: one that is a value is a reranker's."""
    if scoring is not None and scoring.kind == "value" and columns == 1:
        return "rankings"
    return _BY_TASK.get(task)


def class_names(config: Mapping[str, Any]) -> dict[str, int]:
    """Return the classes of a text classifier by name. A config that names none has as many as it says, or two."""
    if not any(name.endswith("ForSequenceClassification") for name in architectures(config)):
        return {}
    named = config.get("id2label") or dict(enumerate(label_names(config)))
    return {str(name): int(number) for number, name in named.items()}
