"""Labeled tokens become entities, by values worked out by hand and by the pipeline of transformers itself."""

import warnings
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import numpy as np
import pytest
import transformers

import headway
from headway.entities import AGGREGATIONS, Aggregation, Entities, check_aggregation, entity_spans, tokens_of
from headway.errors import HeadwayWarning, UsageError
from headway.exporter.export import export
from headway.exporter.recipe.recipe import Recipe

from tests.support import models

TEXT = "Ada Lovelace met Charles"
OFFSETS = [(0, 0), (0, 3), (4, 8), (8, 12), (13, 16), (17, 24), (0, 0)]
TOKENS = ["[CLS]", "Ada", "Love", "##lace", "met", "Charles", "[SEP]"]
LABELS = ["O", "B-PER", "I-PER"]


def entities(*labels: str, aggregation: str = "simple") -> Entities:
    """Return the spans where the tokens between the special ones have these labels; the third token is less sure than others."""
    encoding = SimpleNamespace(
        offsets=OFFSETS, special_tokens_mask=[1, 0, 0, 0, 0, 0, 1], tokens=TOKENS, ids=list(range(len(TOKENS)))
    )
    rows = [LABELS.index(label) for label in ("B-PER", *labels, "B-PER")]
    probabilities = np.full((len(rows), 3), 0.05)
    probabilities[np.arange(len(rows)), rows] = 0.9
    probabilities[2] = 0.2
    probabilities[2, rows[2]] = 0.6
    tokens = tokens_of(TEXT, encoding, probabilities, prefixed=True, unknown=None)
    return entity_spans(TEXT, tokens, LABELS, outside="O", aggregation=aggregation)


def texts(spans: list[dict[str, Any]]) -> list[str]:
    return [s["text"] for s in spans]


def test_neighbors_of_one_label_join_and_special_tokens_do_not_count() -> None:
    first, second = entities("B-PER", "I-PER", "I-PER", "O", "B-PER")
    assert first == {"label": "PER", "start": 0, "end": 12, "score": pytest.approx(0.8), "text": "Ada Lovelace"}
    assert (second["text"], second["score"]) == ("Charles", pytest.approx(0.9))


def test_a_beginning_starts_a_new_entity() -> None:
    assert texts(entities("B-PER", "B-PER", "I-PER", "O", "O")) == ["Ada", "Lovelace"]
    assert entities("O", "O", "O", "O", "O") == []


def test_a_word_has_one_label() -> None:
    labels = ("O", "B-PER", "O", "O", "O")  # 0.6 for the first half of the word, 0.9 for the second
    assert texts(entities(*labels)) == ["Love"]
    assert texts(entities(*labels, aggregation="first")) == ["Lovelace"]
    assert texts(entities(*labels, aggregation="max")) == []
    assert texts(entities(*labels, aggregation="average")) == []


def test_an_unknown_aggregation_is_refused() -> None:
    with pytest.raises(UsageError, match=r"'words'.*simple, first, average, max"):
        check_aggregation("words")


def spans(labels: list[str], names: list[str], special: tuple[int, ...] = ()) -> list[tuple[str, int, int]]:
    """Return label, start and end for tokens `ab`, `cd`, … one behind the other, which have these labels."""
    text = "abcdefghijklmnopqrstuvwxyz"[: 2 * len(labels)]
    encoding = SimpleNamespace(
        offsets=[(2 * i, 2 * i + 2) for i in range(len(labels))],
        special_tokens_mask=[int(i in special) for i in range(len(labels))],
        tokens=["ab"] * len(labels),
        ids=list(range(len(labels))),
    )
    probabilities = np.eye(len(names))[[names.index(n) for n in labels]]
    tokens = tokens_of(text, encoding, probabilities, prefixed=True, unknown=None)
    found = entity_spans(text, tokens, names, outside="O", aggregation="simple")
    assert all(s["text"] == text[s["start"] : s["end"]] and s["score"] == 1 for s in found)
    return [(s["label"], s["start"], s["end"]) for s in found]


NAMES = ["O", "B-PER", "I-PER", "B-ORG", "I-ORG"]


@pytest.mark.parametrize(
    ("labels", "wanted"),
    [
        ("B-PER I-PER I-PER", [("PER", 0, 6)]),
        ("B-PER B-PER I-PER", [("PER", 0, 2), ("PER", 2, 6)]),
        ("I-PER I-PER O", [("PER", 0, 4)]),
        ("B-PER I-ORG I-ORG", [("PER", 0, 2), ("ORG", 2, 6)]),
        ("I-PER B-ORG I-PER", [("PER", 0, 2), ("ORG", 2, 4), ("PER", 4, 6)]),
        ("B-PER O I-PER", [("PER", 0, 2), ("PER", 4, 6)]),
        ("O O O I-ORG", [("ORG", 6, 8)]),
        ("O O", []),
    ],
)
def test_entities_by_beginning_inside_and_outside(labels: str, wanted: list[tuple[str, int, int]]) -> None:
    assert spans(labels.split(), NAMES) == wanted


def test_special_tokens_are_no_entities() -> None:
    assert spans(["I-PER", "I-PER"], NAMES, special=(0, 1)) == []
    assert spans(["B-PER", "O", "I-PER"], NAMES, special=(2,)) == [("PER", 0, 2)]


def test_labels_without_a_scheme_join_with_their_neighbors() -> None:
    assert spans(["PER", "PER", "LOC", "none", "LOC"], ["none", "PER", "LOC"])[:2] == [("PER", 0, 4), ("LOC", 4, 6)]


@pytest.fixture(scope="module")
def tagger(tmp_path_factory: pytest.TempPathFactory) -> tuple[Path, Path]:
    """Return a random tagger whose labels change often, and its bundle."""
    folder = tmp_path_factory.mktemp("tagger")
    labels = ["O", "B-PER", "I-PER", "B-LOC", "I-LOC"]
    source = models.make_model(
        folder / "source",
        "bert",
        "token-classification",
        id2label=dict(enumerate(labels)),
        label2id={label: i for i, label in enumerate(labels)},
        initializer_range=0.5,
    )
    return source, export(Recipe(source=str(source)), folder / "out").path


def pipeline(source: Path, aggregation: str) -> Any:
    return transformers.pipeline("token-classification", str(source), aggregation_strategy=aggregation, device="cpu")


LINES = [
    "the modeling of trains, with prices",
    "rain",
    "A language piece runs wordy numbers! and bread",
    "zzqx \u00e9t\u00e9 the model",
    " ".join(["the price of large trains"] * 30),
    "",
]


@pytest.mark.parametrize("aggregation", AGGREGATIONS)
def test_entities_are_those_of_the_pipeline(tagger: tuple[Path, Path], aggregation: Aggregation) -> None:
    source, path = tagger
    bundle = headway.Bundle.open(path)  # anew: a cut is told once for each opened bundle
    with pytest.warns(HeadwayWarning, match="text 4 has more than 64 tokens, and only its beginning is read") as told:
        found = bundle.entities(LINES, aggregation=aggregation)
    assert [Path(w.filename) for w in told if w.category is HeadwayWarning] == [Path(__file__)]
    with warnings.catch_warnings():
        warnings.simplefilter("error", HeadwayWarning)
        again = bundle.entities(LINES[4:], aggregation=aggregation)
    assert [spans.truncated for spans in again] == [True, False]
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        theirs = [pipeline(source, aggregation)(line) for line in LINES]
    assert any(len(spans) > 2 for spans in theirs)
    for ours, wanted, text in zip(found, theirs, LINES, strict=True):
        keys = [(s["label"], s["start"], s["end"]) for s in ours]
        assert keys == [(s["entity_group"], s["start"], s["end"]) for s in wanted]
        assert [s["score"] for s in ours] == pytest.approx([float(s["score"]) for s in wanted], abs=1e-4)
        assert all(s["text"] == text[s["start"] : s["end"]] for s in ours)
    assert [spans.truncated for spans in found] == [False, False, False, False, True, False]
