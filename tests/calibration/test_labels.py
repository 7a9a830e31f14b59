"""Labels of calibration data: classes, several labels and values, in every form that a table may hold them."""

import json
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from headway.calibration.corpus import read_labeled
from headway.calibration.labels import columns_of, parse_labels
from headway.errors import UsageError
from headway.tasks import Activation, Scoring

CLASSES = {"toxic": 0, "spam": 1, "rude, loud": 2}
SEVERAL = Scoring("multi-label", "sigmoid")
FILE = Path("data.jsonl")


@pytest.mark.parametrize(
    ("label", "flags"),
    [
        (["toxic", "rude, loud"], [1, 0, 1]),
        ([0, 2], [1, 0, 1]),
        ([1.0], [0, 1, 0]),
        ([0, 1, 1], [0, 1, 1]),
        ([True, False, False], [1, 0, 0]),
        ([0.0, 1.0, 0.0], [0, 1, 0]),
        ([], [0, 0, 0]),
        (None, [0, 0, 0]),
        ("", [0, 0, 0]),
        ("spam", [0, 1, 0]),
        ("rude, loud", [0, 0, 1]),
        ("toxic|spam", [1, 1, 0]),
        ("0, 1", [1, 1, 0]),
        ('["toxic"]', [1, 0, 0]),
        ("['toxic', 'spam']", [1, 1, 0]),
        ("[0, 0, 1]", [0, 0, 1]),
        (2, [0, 0, 1]),
    ],
)
def test_several_labels(label: object, flags: list[int]) -> None:
    parsed = parse_labels(FILE, [label], CLASSES, SEVERAL)
    assert parsed.dtype == np.float32 and parsed.tolist() == [flags]


@pytest.mark.parametrize("label", ["angry", ["toxic", "angry"], [3], "toxic|angry", 1.5, [[0]]])
def test_a_label_that_the_model_does_not_have_is_named(label: object) -> None:
    with pytest.raises(UsageError, match=r"data\.jsonl: label .* is none of the model's classes toxic, spam"):
        parse_labels(FILE, [label], CLASSES, SEVERAL)


@pytest.mark.parametrize(
    ("activation", "labels", "wanted"),
    [
        ("identity", [3, "-2.5", 1e3], [[3], [-2.5], [1000]]),
        ("sigmoid", [0, "1", 0.25, True], [[0], [1], [0.25], [1]]),
        ("tanh", [-1, 0.5, [1.0]], [[-1], [0.5], [1]]),
    ],
)
def test_values(activation: Activation, labels: list[Any], wanted: list[list[float]]) -> None:
    assert parse_labels(FILE, labels, {"LABEL_0": 0}, Scoring("value", activation)).tolist() == wanted


@pytest.mark.parametrize(
    ("activation", "label", "said"),
    [
        ("identity", "high", "no number"),
        ("identity", None, "no number"),
        ("identity", float("nan"), "that are finite"),
        ("identity", [1, 2], "has 2 values; this model gives 1"),
        ("sigmoid", 1.5, "from 0 to 1"),
        ("sigmoid", -0.1, "from 0 to 1"),
        ("tanh", -1.5, "from -1 to 1"),
    ],
)
def test_what_is_no_value_of_the_model_is_named(activation: Activation, label: object, said: str) -> None:
    with pytest.raises(UsageError, match=said):
        parse_labels(FILE, [label], {"LABEL_0": 0}, Scoring("value", activation))


def test_labels_follow_their_texts(tmp_path: Path) -> None:
    """Repeated texts count once, by their first label."""
    rows = [{"text": "a", "score": 1}, {"text": "b", "score": 2}, {"text": " a", "score": 3}, {"text": "c", "score": 4}]
    path = tmp_path / "a.jsonl"
    path.write_text("\n".join(map(json.dumps, rows)))
    texts, labels = read_labeled(path, {"LABEL_0": 0}, scoring=Scoring("value", "identity"))
    assert texts == ["a", "b", "c"] and labels is not None and labels.tolist() == [[1], [2], [4]]
    assert read_labeled(path, {"no": 0, "yes": 1})[1] is None  # a score is no class
    assert "score" in columns_of(Scoring("value", "sigmoid")) and "score" not in columns_of(SEVERAL)
