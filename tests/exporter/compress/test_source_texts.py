"""How the text of a source is read, by its task."""

import json
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest

from headway.errors import HeadwayWarning, UsageError
from headway.exporter.compress.source_texts import class_names, read_source_texts, reading_of


@pytest.mark.parametrize(
    ("config", "names"),
    [
        ({"architectures": ["BertModel"], "id2label": {"0": "a"}}, {}),
        ({}, {}),
        ({"architectures": ["BertForSequenceClassification"]}, {"LABEL_0": 0, "LABEL_1": 1}),
        ({"architectures": "BertForSequenceClassification"}, {"LABEL_0": 0, "LABEL_1": 1}),
        ({"architectures": ["XForSequenceClassification"], "id2label": {"0": "no", "1": "yes"}}, {"no": 0, "yes": 1}),
    ],
)
def test_classes_of_a_config(config: dict, names: dict[str, int]) -> None:
    assert class_names(config) == names


def source(task: str, **config: Any) -> Any:
    return SimpleNamespace(task=task, config=config, directory=None, spec="model")


CLASSIFIER = {"architectures": ["BertForSequenceClassification"], "id2label": {"0": "no", "1": "yes"}}
RERANKER = {"architectures": ["BertForSequenceClassification"], "id2label": {"0": "LABEL_0"}}


def table(folder: Path, *rows: dict[str, Any]) -> list[Path]:
    path = folder / "table.jsonl"
    path.write_text("".join(f"{json.dumps(row)}\n" for row in rows))
    return [path]


def test_what_each_task_reads() -> None:
    assert reading_of(source("text-classification", **CLASSIFIER)) == "pairs"
    assert reading_of(source("text-classification", **RERANKER)) == "rankings"
    assert reading_of(source("question-answering")) == "rankings"
    assert reading_of(source("sentence-embedding")) == reading_of(source("multi-vector")) == "parts"
    assert reading_of(source("fill-mask")) is None


def test_a_classifier_reads_pairs_with_their_labels(tmp_path: Path) -> None:
    paths = table(
        tmp_path,
        {"premise": " a ", "hypothesis": "b", "label": "yes"},
        {"premise": "a", "hypothesis": "c", "label": 0},
        {"premise": "a", "hypothesis": "b", "label": "no"},  # once is enough
    )
    (file,) = read_source_texts(source("text-classification", **CLASSIFIER), paths, None)
    assert file.texts == [("a", "b"), ("a", "c")] and file.queries is None
    assert file.labels is not None and file.labels.tolist() == [1, 0]
    (plain,) = read_source_texts(source("text-classification", **CLASSIFIER), paths, None, labels=False)
    assert plain.texts == file.texts and plain.labels is None
    (single,) = read_source_texts(source("text-classification", **CLASSIFIER), paths, "hypothesis", labels=False)
    assert single.texts == ["b", "c"]


def test_a_classifier_of_single_texts_reads_its_text_beside_a_question(tmp_path: Path) -> None:
    paths = table(tmp_path, {"question": "q", "text": "a", "label": "yes"})
    (file,) = read_source_texts(source("text-classification", **CLASSIFIER), paths, "text")
    assert file.texts == ["a"]


def test_a_reranker_reads_queries_with_their_texts(tmp_path: Path) -> None:
    paths = table(
        tmp_path,
        {"query": "q1", "texts": ["a", "b"], "relevance": [2, 0]},
        {"query": "q2", "texts": ["a"], "relevance": [1]},
        {"query": "q1", "texts": ["c"], "relevance": [0.5]},
    )
    (file,) = read_source_texts(source("text-classification", **RERANKER), paths, None)
    assert file.texts == [("q1", "a"), ("q1", "b"), ("q2", "a"), ("q1", "c")]
    assert file.labels is not None and file.labels.tolist() == [[2], [0], [1], [0.5]]
    assert file.queries is not None and file.queries.tolist() == [0, 0, 1, 0]


def test_a_reranker_reads_a_passage_a_row(tmp_path: Path) -> None:
    rows = [{"query": "q", "passage": "a", "label": 1}, {"query": "q", "passage": "b", "label": 0}]
    (file,) = read_source_texts(source("text-classification", **RERANKER), table(tmp_path, *rows), None)
    assert file.queries is not None and file.queries.tolist() == [0, 0]
    rows[1]["query"] = "other"
    (file,) = read_source_texts(source("text-classification", **RERANKER), table(tmp_path, *rows), None)
    assert file.queries.tolist() == [0, 1] and file.labels is not None and file.labels.tolist() == [[1], [0]]  # type: ignore[union-attr]


def test_questions_have_contexts_and_embeddings_have_parts(tmp_path: Path) -> None:
    paths = table(tmp_path, {"question": "q", "context": "c", "answers": {"text": ["c"]}})
    (file,) = read_source_texts(source("question-answering"), paths, None)
    assert file.texts == [("q", "c")]
    paths = table(tmp_path, {"query": "q", "texts": ["a", " ", "q"]}, {"query": "r", "texts": "a"})
    (file,) = read_source_texts(source("sentence-embedding"), paths, None)
    assert file.texts == ["q", "a", "r"] and file.labels is None and file.queries is None


@pytest.mark.parametrize(
    ("row", "message"),
    [
        ({"query": "q", "texts": ["a", "b"], "relevance": [1]}, "row 1 has 2 texts and 1 numbers"),
        ({"query": "q", "texts": ["a", "b"], "relevance": 3}, "row 1 holds 3"),
        ({"query": "q", "texts": ["a", "b"], "relevance": [1, "much"]}, "a score is no number"),
        ({"query": "q", "texts": ["a", "b"], "relevance": [1, -1]}, "a relevance is -1"),
        ({"query": "q", "texts": ["a", {}]}, "row 1 of 'texts' is no text but a dict"),
        ({"query": "\ud800", "texts": ["a"]}, "row 1 of 'query' holds a lone surrogate"),
        ({"query": "", "texts": [""]}, "holds no text"),
    ],
)
def test_what_is_wrong_with_a_row_is_told(tmp_path: Path, row: dict[str, Any], message: str) -> None:
    with pytest.raises(UsageError, match=message):
        read_source_texts(source("text-classification", **RERANKER), table(tmp_path, row), None)


def test_texts_that_begin_with_a_bracket_are_texts(tmp_path: Path) -> None:
    rows = [{"question": "q", "context": "[1] as said"}, {"question": "r", "context": "[2019]"}]
    (file,) = read_source_texts(source("question-answering"), table(tmp_path, *rows), None)
    assert file.texts == [("q", "[1] as said"), ("r", "[2019]")]
    (file,) = read_source_texts(source("question-answering"), table(tmp_path, {"query": "q", "texts": "[a, b"}), None)
    assert file.texts == [("q", "[a, b")]


def test_a_model_of_several_values_is_no_reranker(tmp_path: Path) -> None:
    config = RERANKER | {"problem_type": "regression", "id2label": {"0": "a", "1": "b", "2": "c"}}
    assert reading_of(source("text-classification", **config)) == "pairs"


def test_a_usual_column_of_text_beside_a_query_is_told(tmp_path: Path) -> None:
    with pytest.warns(HeadwayWarning, match="is read as pairs of 'question' and 'text': name a `column`"):
        read_source_texts(
            source("text-classification", **RERANKER), table(tmp_path, {"question": "q", "text": "a"}), None
        )
