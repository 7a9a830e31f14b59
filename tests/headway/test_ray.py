"""What maps the batches of a Ray dataset."""

from pathlib import Path

import numpy as np
import pytest

import headway
from headway.errors import UsageError
from headway.ray import BundleMapper

TEXTS = ["the price of bread", "rain"]


def test_a_batch_gets_the_columns_of_its_answers(embedder: Path, tagger: Path) -> None:
    batch = {"text": np.array(TEXTS, object), "id": np.array([1, 2])}
    result = BundleMapper(embedder)(batch)
    np.testing.assert_allclose(result["embedding"], headway.open(embedder)(TEXTS)["sentence_embedding"], atol=1e-5)
    assert result["id"] is batch["id"] and not result["truncated"].any()
    entities = BundleMapper(str(tagger), "body", lanes=2)({"body": np.array(TEXTS, object)})["entities"]
    assert entities.dtype == object and len(entities) == 2 and isinstance(entities[0], list)


def test_what_is_no_text_is_refused(embedder: Path) -> None:
    mapper = BundleMapper(embedder)
    with pytest.raises(UsageError, match="a column 'truncated' already"):
        mapper({"text": np.array(["a"], object), "truncated": np.array([1])})
    with pytest.raises(UsageError, match="no column 'text'; found body"):
        mapper({"body": np.array(TEXTS)})
    with pytest.raises(UsageError, match="text 1 is of type NoneType"):
        mapper({"text": np.array(["a", np.nan], object)})
