"""Zero-shot classification gives what the pipeline of transformers gives."""

from typing import Any

import numpy as np
import pytest

from headway.bundle import Bundle
from headway.errors import HeadwayWarning, UsageError
from headway.exporter.export import export
from headway.exporter.recipe.recipe import Recipe
from headway.zero_shot import entailment, hypotheses, label_scores

from tests.support import models
from tests.support.other_families import make_other

TEXTS = ["the PRICE of bread", "a", "rain and TRAIN " * 40]
LABELS = ["rain", "bread and time", "a model"]
MODELS = [
    ("bert", ["contradiction", "neutral", "entailment"]),
    ("bert", ["ENTAILMENT", "not_entailment"]),
    ("bart", ["contradiction", "neutral", "entailment"]),
]


@pytest.fixture(
    scope="module", params=[*MODELS[:2], pytest.param(MODELS[2], marks=pytest.mark.slow)], ids=["three", "two", "bart"]
)
def both(request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory) -> tuple[Bundle, Any]:
    import transformers

    folder = tmp_path_factory.mktemp("nli")
    family, classes = request.param
    names = dict(enumerate(classes))
    changes: dict[str, Any] = {"id2label": names, "label2id": {name: i for i, name in names.items()}}
    if family == "bert":
        source = models.make_model(folder / "source", "bert", "text-classification", num_hidden_layers=3, **changes)
    else:
        source = make_other(folder / "source", family, **changes)
    pipeline = transformers.pipeline("zero-shot-classification", model=str(source), device="cpu")
    return Bundle.open(export(Recipe(source=str(source)), folder / "out").path), pipeline


@pytest.mark.parametrize("multi_label", [False, True])
@pytest.mark.parametrize("labels", [LABELS, LABELS[:1]], ids=len)
def test_scores_are_the_pipelines(both: tuple[Bundle, Any], multi_label: bool, labels: list[str]) -> None:
    bundle, pipeline = both
    template = "the text is of {}!"
    with pytest.warns(HeadwayWarning, match="more than 64 tokens") if not bundle._told_of_cuts else nothing():
        ours = bundle.classify(TEXTS, labels, template=template, multi_label=multi_label, batch_size=2)
    theirs = pipeline(TEXTS, labels, hypothesis_template=template, multi_label=multi_label)
    for mine, wanted in zip(ours, theirs, strict=True):
        # Scores that are as good as equal may come in either order, so scores are compared by label.
        by_label = dict(zip(wanted["labels"], wanted["scores"], strict=True))
        assert mine.keys() == by_label.keys()
        np.testing.assert_allclose(list(mine.values()), [by_label[label] for label in mine], atol=1e-5)
        assert list(mine.values()) == sorted(mine.values(), reverse=True)
    assert [scores.truncated for scores in ours] == [False, False, True]


def nothing() -> Any:
    from contextlib import nullcontext

    return nullcontext()


def test_what_is_refused(both: tuple[Bundle, Any]) -> None:
    bundle, _ = both
    assert bundle.classify([], LABELS) == []
    with pytest.raises(UsageError, match="there are no labels"):
        bundle.classify(TEXTS, [])
    with pytest.raises(UsageError, match="given twice"):
        bundle.classify(TEXTS, ["rain", "rain"])
    with pytest.raises(UsageError, match="max_length is 0"):
        bundle.classify(TEXTS, LABELS, max_length=0)
    with pytest.raises(UsageError, match="leaves no room for a text"):
        bundle.classify(TEXTS, ["rain " * 100])
    with pytest.raises(UsageError, match="text 0 is a pair"):
        bundle.classify([("a", "b")], LABELS)  # type: ignore[list-item]


@pytest.mark.parametrize("template", ["no place", "{} {}", "{name}", "{", "{.x}", "{[0]}", "{[a]}", None])
def test_a_template_has_one_place(template: str) -> None:
    with pytest.raises(UsageError, match="template"):
        hypotheses(LABELS, template)


def test_labels_are_strings() -> None:
    for labels in ("rain", [1, 2]):
        with pytest.raises(UsageError, match="labels are a list of strings"):
            hypotheses(labels, "{}")  # type: ignore[arg-type]


def test_the_class_of_entailment() -> None:
    assert entailment({"0": "contradiction", "1": "Entailment"}) == 1
    assert entailment({"0": "LABEL_0"}) is None
    logits = np.array([[[0.0, 9.0, 1.0], [0.0, 9.0, 2.0]]])
    np.testing.assert_allclose(label_scores(logits, 2, multi_label=True), 1 / (1 + np.exp([[-1.0, -2.0]])))
    np.testing.assert_allclose(label_scores(logits, 2, multi_label=False).sum(axis=1), [1.0])
