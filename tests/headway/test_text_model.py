"""Texts in, arrays out: what every call of a bundle has in common."""

from pathlib import Path

import numpy as np
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


def test_an_opened_bundle_has_its_limits(bert_bundle: Exported) -> None:
    """A runtime would wrap negative ids around, or read beyond the embeddings; integers of any size are cast."""
    model = TextModel.open(bert_bundle.path)
    vocabulary = bert_bundle.manifest.anatomy["vocabulary"]
    assert model.runner.limits.vocabulary == vocabulary
    ids = np.array([[2, 7, vocabulary - 1, 3]])
    every = {"input_ids": ids, "attention_mask": np.ones_like(ids), "token_type_ids": np.zeros_like(ids)}
    assert set(model.runner.input_names) == set(every)
    wanted = model.runner.run(every)
    for feeds in (
        {"input_ids": ids.astype(np.int32), "attention_mask": np.ones_like(ids, np.int32)},
        {"input_ids": ids.astype(np.uint16)},
    ):
        results = model.runner.run(feeds)
        assert results.keys() == wanted.keys()
        assert all(np.array_equal(results[name], wanted[name]) for name in wanted)
    ids[0, 1] = -1
    with pytest.raises(UsageError, match="input_ids holds -1; ids of tokens are not negative"):
        model.runner.run({"input_ids": ids})
    for beyond in (vocabulary, 10 * vocabulary):
        ids[0, 1] = beyond
        with pytest.raises(UsageError, match=f"holds {beyond}, and .* embeddings for the ids 0 to {vocabulary - 1}"):
            model.runner.run({"input_ids": ids})
    with pytest.raises(UsageError, match="input_ids is float32; give integers"):
        model.runner.run({"input_ids": ids.astype(np.float32)})
