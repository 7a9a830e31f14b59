"""Quality on labels and parity of a real bundle beside its source."""

import json
from pathlib import Path

import pytest

from headway.errors import UsageError
from headway.exporter.export import Exported, export
from headway.exporter.recipe.recipe import Recipe
from headway.exporter.validate.gate_bundle import Question
from headway.exporter.validate.modes import MODES
from headway.exporter.validate.quality_gate import gold_of, parity_gate, quality_gate, source_named

from tests.support.models import WORDS


@pytest.fixture(scope="module")
def classifier(bert_classifier: Path, tmp_path_factory: pytest.TempPathFactory) -> Exported:
    return export(Recipe(source=str(bert_classifier)), tmp_path_factory.mktemp("gate") / "bundle")


def test_a_bundle_is_no_worse_than_its_source(
    classifier: Exported, bert: Path, bert_classifier: Path, tmp_path: Path
) -> None:
    data = tmp_path / "data.jsonl"
    rows = [{"text": f"{a} {b}", "label": (i + j) % 2} for i, a in enumerate(WORDS) for j, b in enumerate(WORDS)]
    data.write_text("\n".join(map(json.dumps, rows)))
    gold = gold_of(data, None, classifier.manifest, needed=True)
    assert gold is not None and gold_of(data, None, classifier.manifest, needed=False) is None
    question = Question(classifier.path, {}, MODES["quick"], data=data, against=str(bert_classifier))
    row, figures = quality_gate(question, classifier.manifest, gold, 1.0)
    assert row.verdict == "pass" and [f["metric"] for f in figures] == ["accuracy", "macro F1", "binary F1"]
    assert figures[0]["points"] == pytest.approx(figures[0]["source_points"])
    with pytest.raises(UsageError, match="is not the model that"):
        quality_gate(Question(classifier.path, {}, MODES["quick"], against=str(bert)), classifier.manifest, gold, 1.0)


def test_parity_is_that_of_verify(classifier: Exported, bert_classifier: Path) -> None:
    row = parity_gate(Question(classifier.path, {}, MODES["quick"], against=str(bert_classifier)))
    assert row.verdict == "pass" and "batches" in row.note


def test_labels_are_asked_for(classifier: Exported) -> None:
    with pytest.raises(UsageError, match="give --data, a table with labels"):
        gold_of(None, None, classifier.manifest, needed=True)


def test_a_source_that_is_not_there_is_asked_for(classifier: Exported) -> None:
    with pytest.raises(UsageError, match="say where it is with --against"):
        source_named(Question(classifier.path, {}, MODES["quick"]))
