"""The verdict: what it must catch."""

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from headway.errors import GateError
from headway.exporter.check.parity import Case, compare, first_divergence, make_cases

MASK = np.array([[1, 1, 1], [1, 1, 0]])
CASE = Case("a case", {"input_ids": MASK, "attention_mask": MASK})


def verdict(reference: np.ndarray, got: np.ndarray, per_token: bool = True, **options):
    return compare([CASE], [{"y": reference}], lambda _: {"y": got}, per_token=["y"] if per_token else [], **options)


@given(st.floats(0, 1e-3), st.integers(0, 1), st.integers(0, 1))
def test_a_difference_is_measured_where_tokens_are_real(size: float, row: int, column: int) -> None:
    reference = np.ones((2, 3, 4), np.float32)
    got = reference.copy()
    got[row, column, 2] += np.float32(size)
    measured = verdict(reference, got).outputs[0]
    assert measured.max_abs == pytest.approx(size, abs=1e-7)
    assert measured.ok == (measured.max_abs <= 1e-4)


def test_padding_does_not_count() -> None:
    reference = np.ones((2, 3, 4), np.float32)
    got = reference.copy()
    got[1, 2] = 99
    assert verdict(reference, got).ok
    assert not verdict(reference.reshape(2, 12), got.reshape(2, 12), per_token=False).ok


@pytest.mark.parametrize("bad", [np.nan, np.inf, -np.inf])
def test_nan_and_inf_never_agree(bad: float) -> None:
    reference = np.ones((2, 3, 4), np.float32)
    got = reference.copy()
    got[0, 0, 0] = bad
    assert not verdict(reference, got).ok
    assert not verdict(got, got).ok


def test_a_missing_output_or_another_shape_is_an_error() -> None:
    with pytest.raises(GateError, match="'y'"):
        compare([CASE], [{"y": np.ones((2, 3, 4))}], lambda _: {}, per_token=["y"])
    with pytest.raises(GateError, match="shape"):
        verdict(np.ones((2, 3, 4)), np.ones((2, 3, 5)))


def test_large_values_are_compared_at_their_own_scale() -> None:
    reference = np.full((2, 3, 4), 1000.0)
    assert verdict(reference, reference + 0.05).ok
    assert not verdict(reference, reference + 0.2).ok
    assert not verdict(reference, reference + 0.05, tolerance=1e-6).ok


def test_the_first_module_that_differs_is_found() -> None:
    good = np.ones((2, 3, 4))
    expected = {"a": good, "b": good, "c": good}
    assert first_divergence(["a", "b", "c"], expected, {"a": good, "b": good + 1, "c": good + 1}, MASK, 1e-4) == "b"
    assert first_divergence(["a", "b", "c"], expected, expected, MASK, 1e-4) is None


@given(st.integers(4, 80))
def test_cases_cover_one_token_and_the_longest(longest: int) -> None:
    def tokenize(texts, limit):
        rows = [[1, *[5] * min(len(t), limit - 2), 2][:limit] for t in texts]
        width = max(map(len, rows))
        ids = np.array([r + [0] * (width - len(r)) for r in rows])
        return {"input_ids": ids, "attention_mask": (ids != 0).astype(np.int64), "token_type_ids": np.zeros_like(ids)}

    cases = make_cases(tokenize, ["a", "some words", "a longer line of words that goes on"], longest, 0)
    shapes = [c.feeds["input_ids"].shape for c in cases]
    assert (1, 1) in shapes
    assert (1, longest) in shapes
    assert any((c.feeds["attention_mask"] == 0).any() for c in cases)
    assert max(s[1] for s in shapes) <= longest
    assert {len({v.shape for v in c.feeds.values()}) for c in cases} == {1}


def test_cases_follow_from_the_order_of_the_text_alone() -> None:
    """The order of a set differs from process to process: a second export would have another manifest."""
    lines = [f"line {i:03}" for i in range(101)]
    asked: list[list[str]] = []

    def tokenize(texts, most):
        asked.append(list(texts))
        ids = np.ones((len(texts), most or 4), np.int64)
        return {"input_ids": ids, "attention_mask": ids, "token_type_ids": ids * 0}

    make_cases(tokenize, lines, 16, 0)
    assert all([lines[i]] in asked for i in (10, 50, 90))
