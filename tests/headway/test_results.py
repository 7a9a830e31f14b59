"""Results are plain values that say whether their text was cut, and go on saying so in copies and pickles."""

import copy
import pickle
from typing import Any

import numpy as np
import pytest

from headway.results import Candidates, Choice, Entities, Label, Labels, Outputs, Scores

PLAIN: list[tuple[Any, object]] = [
    (Labels([Label("spam", 0.5)]), [("spam", 0.5)]),
    (Scores(spam=0.5), {"spam": 0.5}),
    (Entities([{"label": "PER"}]), [{"label": "PER"}]),
    (Candidates([{"id": 7}]), [{"id": 7}]),
    (Label("spam", 0.5), ("spam", 0.5)),
    (Choice(2, 0.5), (2, 0.5)),
]


@pytest.mark.parametrize(("result", "plain"), PLAIN, ids=[type(r).__name__ for r, _ in PLAIN])
def test_a_result_equals_its_plain_value_and_says_whether_its_text_was_cut(result: Any, plain: object) -> None:
    assert result == plain and not result.truncated
    result.truncated = True
    for again in (copy.copy(result), pickle.loads(pickle.dumps(result))):
        assert type(again) is type(result) and again == plain and again.truncated


def test_outputs_are_arrays_by_name_with_a_truth_value_for_each_text() -> None:
    outputs = Outputs({"logits": np.zeros((2, 3))}, [False, True])
    for again in (outputs, copy.copy(outputs), pickle.loads(pickle.dumps(outputs))):
        assert again["logits"].shape == (2, 3) and again.truncated == [False, True]
