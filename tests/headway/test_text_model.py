"""Texts in, arrays out: what every call of a bundle has in common."""

from pathlib import Path

import pytest

from headway.errors import HeadwayWarning, UsageError
from headway.exporter.export import Exported
from headway.text_model import TextModel


def test_it_opens_alone_and_answers(bert_bundle: Exported) -> None:
    model = TextModel.open(bert_bundle.path)
    assert type(model) is TextModel
    assert model(["a", "the price"])["last_hidden_state"].shape[0] == 2
    with pytest.raises(UsageError, match="a feature-extraction bundle; fill-mask or text-classification is needed"):
        model._expect("fill-mask", "text-classification")


def test_a_cut_is_told_where_it_was_asked_for(bert_bundle: Exported) -> None:
    model = TextModel.open(bert_bundle.path)
    with pytest.warns(HeadwayWarning, match="text 1 has more than 64 tokens") as told:
        model(["a", "rain " * 100])
    assert Path(told[0].filename) == Path(__file__)
