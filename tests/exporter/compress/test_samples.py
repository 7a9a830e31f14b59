"""How text is divided into what is learned from and what judges."""

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from headway.exporter.compress.samples import FEW_TEXTS, class_names, divide
from headway.exporter.recipe.recipe import Calibration


@given(st.integers(FEW_TEXTS, 3000), st.integers(1, 600), st.integers(0, 9))
def test_no_text_both_teaches_and_judges(count: int, samples: int, seed: int) -> None:
    learn, judge = divide(count, Calibration(samples=samples, seed=seed))
    assert not {*learn} & {*judge} and {*learn, *judge} <= {*range(count)}
    assert len(judge) == min(256, count // 5) and len(learn) == min(samples, count - len(judge))
    again = divide(count, Calibration(samples=samples, seed=seed))
    assert np.array_equal(learn, again[0]) and np.array_equal(judge, again[1])


def test_of_very_few_texts_all_serve_both() -> None:
    learn, judge = divide(FEW_TEXTS - 1, Calibration(samples=1))
    assert sorted(learn) == sorted(judge) == list(range(FEW_TEXTS - 1))


@pytest.mark.parametrize(
    ("config", "names"),
    [
        ({"architectures": ["BertModel"], "id2label": {"0": "a"}}, {}),
        ({}, {}),
        ({"architectures": ["BertForSequenceClassification"]}, {"LABEL_0": 0, "LABEL_1": 1}),
        ({"architectures": ["XForSequenceClassification"], "id2label": {"0": "no", "1": "yes"}}, {"no": 0, "yes": 1}),
    ],
)
def test_classes_of_a_config(config: dict, names: dict[str, int]) -> None:
    assert class_names(config) == names
