"""How text is divided into what is learned from and what judges."""

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from headway.errors import UsageError
from headway.exporter.compress.samples import FEWEST_TEXTS, class_names, divide
from headway.exporter.recipe.recipe import Calibration


@given(st.integers(FEWEST_TEXTS, 3000), st.integers(1, 600), st.integers(0, 9), st.booleans())
def test_no_text_is_in_two_parts(count: int, samples: int, seed: int, choosing: bool) -> None:
    split = divide(count, Calibration(samples=samples, seed=seed), choosing=choosing)
    parts = [split.learn, split.more, split.choose, split.judge]
    assert sorted(np.concatenate(parts)) == list(range(count))
    held = min(256, count // 5)
    assert len(split.judge) == held and len(split.choose) == (held if choosing else 0)
    assert len(split.learn) == min(samples, count - len(split.judge) - len(split.choose))
    again = divide(count, Calibration(samples=samples, seed=seed), choosing=choosing)
    assert all(map(np.array_equal, parts, [again.learn, again.more, again.choose, again.judge]))


def test_the_same_texts_judge_whether_or_not_a_pass_chooses() -> None:
    plain, choosing = (divide(300, Calibration(), choosing=c) for c in (False, True))
    assert np.array_equal(plain.judge, choosing.judge)


def test_so_few_texts_that_none_could_be_held_out_are_refused() -> None:
    with pytest.raises(UsageError, match=f"holds {FEWEST_TEXTS - 1} texts; at least {FEWEST_TEXTS}"):
        divide(FEWEST_TEXTS - 1, Calibration(samples=1))
    assert len(divide(FEWEST_TEXTS, Calibration(samples=1)).judge) == 2


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
