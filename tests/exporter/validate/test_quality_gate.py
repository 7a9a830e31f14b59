"""Quality on labels and parity of a real bundle beside its source."""

import json
import shutil
from dataclasses import replace
from pathlib import Path

import pytest

from headway.calibration.corpus import fingerprint_of, read_files
from headway.errors import UsageError
from headway.exporter.compress.source_texts import reading_for
from headway.exporter.export import Exported, export
from headway.exporter.recipe.recipe import Recipe
from headway.exporter.source.source import Source
from headway.exporter.validate import quality_gate as quality_gate_module
from headway.exporter.validate.gate_bundle import Question
from headway.exporter.validate.modes import MODES
from headway.exporter.validate.quality_gate import gold_of, parity_gate, quality_gate, source_named, source_of
from headway.tasks import Scoring

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
    source = source_of(question, classifier.manifest)
    row, figures = quality_gate(question, classifier.manifest, source, gold, 1.0)
    assert row.verdict == "pass" and [f["metric"] for f in figures] == ["accuracy", "macro F1", "binary F1"]
    assert figures[0]["points"] == pytest.approx(figures[0]["source_points"])
    with pytest.raises(UsageError, match="is not the model that"):
        source_of(Question(classifier.path, {}, MODES["quick"], against=str(bert)), classifier.manifest)


def test_quality_is_judged_on_other_text_than_passes_learned_from(classifier: Exported, tmp_path: Path) -> None:
    data = tmp_path / "data.jsonl"
    rows = [{"text": f"{a} {b}", "label": i % 2} for i, a in enumerate(WORDS) for b in WORDS]
    data.write_text("\n".join(map(json.dumps, rows)))
    (file,) = read_files([data], {"LABEL_0": 0, "LABEL_1": 1})
    known = {"text_fingerprint": fingerprint_of([file])}
    compressed = replace(classifier.manifest, compression={}, source=classifier.manifest.source | known)
    with pytest.raises(UsageError, match="is the text that the bundle was compressed with"):
        gold_of(data, None, compressed, needed=True)
    data.write_text("\n".join(map(json.dumps, rows[:-1])))
    assert gold_of(data, None, compressed, needed=True) is not None


@pytest.mark.parametrize("task", ["text-classification", "question-answering", "sentence-embedding"])
def test_tables_of_pairs_that_passes_learned_from_are_known_again(
    task: str, classifier: Exported, tmp_path: Path
) -> None:
    data = tmp_path / "data.jsonl"
    rows: list[dict[str, object]] = [
        {"question": f" {a} ", "context": f"{b} ", "answers": ["a"]} for a in WORDS for b in WORDS[:3]
    ]
    if task != "question-answering":
        rows = [
            {"query": f" {a}", "texts": [f"{b} ", f"no {b}"], "relevance": [1, 0]} for a in WORDS for b in WORDS[:2]
        ]
    data.write_text("\n".join(map(json.dumps, rows)))
    reranker = {"labels": {"0": "score"}, "scoring": {"kind": "value", "activation": "sigmoid"}}
    outputs = [replace(classifier.manifest.outputs[0], name="logits", shape=["batch", 1])]
    manifest = replace(classifier.manifest, task=task, outputs=outputs, compression={}, **reranker)
    scoring = Scoring("value", "sigmoid") if task == "text-classification" else None
    (file,) = read_files([data], {"score": 0}, None, scoring, reading_for(task, scoring, 1))
    known = {"text_fingerprint": fingerprint_of([file])}
    with pytest.raises(UsageError, match="is the text that the bundle was compressed with"):
        gold_of(data, None, replace(manifest, source=manifest.source | known), needed=True)


def test_the_source_has_the_adapters_of_the_bundle(
    classifier: Exported, bert_classifier: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    given: dict[str, object] = {}

    def open_source(spec: str, **options: object) -> Source:
        given.update(options)
        return real(spec)

    real = quality_gate_module.open_source
    monkeypatch.setattr(quality_gate_module, "open_source", open_source)
    bundle = Path(shutil.copytree(classifier.path, tmp_path / "bundle"))
    (tmp_path / "adapter").mkdir()
    recipe = Recipe(source=str(bert_classifier), adapters=[str(tmp_path / "adapter")])
    (bundle / "recipe.yaml").write_text(recipe.to_yaml())
    source_of(Question(bundle, {}, MODES["quick"], against=str(bert_classifier)), classifier.manifest)
    assert given["adapters"] == [str(tmp_path / "adapter")]


def test_parity_is_that_of_verify(classifier: Exported, bert_classifier: Path) -> None:
    row = parity_gate(Question(classifier.path, {}, MODES["quick"], against=str(bert_classifier)))
    assert row.verdict == "pass" and "batches" in row.note


def test_labels_are_asked_for(classifier: Exported) -> None:
    with pytest.raises(UsageError, match="give --data, a table with labels"):
        gold_of(None, None, classifier.manifest, needed=True)


def test_a_source_that_is_not_there_is_asked_for(classifier: Exported) -> None:
    with pytest.raises(UsageError, match="say where it is with --against"):
        source_named(Question(classifier.path, {}, MODES["quick"]))
