"""Prompts, shortened embeddings and rankings."""

import numpy as np
import pytest

from headway.embeddings import Ranked, prompt_for, ranked, shortened
from headway.errors import UsageError


def test_a_prompt_is_given_or_named() -> None:
    prompts = {"query": "find: "}
    assert prompt_for(prompts, None, None) == ""
    assert prompt_for(prompts, "query", None) == "find: "
    assert prompt_for(prompts, "query", "say: ") == "say: "
    with pytest.raises(UsageError, match="no prompt 'passage'; the bundle has: query"):
        prompt_for(prompts, "passage", None)
    assert prompt_for({}, "query", None) == prompt_for(prompts, "document", None) == ""  # as in their library
    with pytest.raises(UsageError, match="the bundle has: none"):
        prompt_for({}, "passage", None)


def test_embeddings_are_cut_before_they_are_scaled() -> None:
    rows = np.array([[3.0, 4.0, 12.0], [0.0, 0.0, 1.0]], np.float32)
    np.testing.assert_array_equal(shortened(rows, None, normalize=False), rows)
    np.testing.assert_array_equal(shortened(rows, 2, normalize=False), rows[:, :2])
    np.testing.assert_allclose(shortened(rows, 2, normalize=True), [[0.6, 0.8], [0, 0]], atol=1e-7)
    for dimensions in (0, 4, -1):
        with pytest.raises(UsageError, match=f"truncate_dim is {dimensions}; an embedding has 3 dimensions"):
            shortened(rows, dimensions, normalize=False)


def test_texts_are_ordered_by_score() -> None:
    order = ranked(["a", "b", "c"], np.array([0.5, 0.75, 0.5]), None)
    assert order == [Ranked(1, 0.75, "b"), Ranked(0, 0.5, "a"), Ranked(2, 0.5, "c")]
    assert [r.index for r in ranked(["a", "b", "c"], np.array([1.0, 2.0, 3.0]), 2)] == [2, 1]
