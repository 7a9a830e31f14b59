"""The verdict: what it must catch."""

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from headway.errors import GateError
from headway.exporter.check.parity import Case, OutputParity, compare, first_divergence, make_cases

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


THREE = [Case(name, {"input_ids": MASK, "attention_mask": MASK}) for name in ("first", "second", "third")]


def over_cases(*pairs: tuple[np.ndarray, np.ndarray], **options) -> OutputParity:
    """Return the verdict on one output over as many cases as there are pairs of reference and answer."""
    answers = iter([got for _, got in pairs])
    expected = [{"y": reference} for reference, _ in pairs]
    return compare(THREE[: len(pairs)], expected, lambda _: {"y": next(answers)}, per_token=[], **options).outputs[0]


@pytest.mark.parametrize("worst", [0, 1, 2])
def test_the_worst_case_decides_wherever_it_stands(worst: int) -> None:
    reference = np.array([[1.0, 2.0], [3.0, 5.0]])
    pairs = [(reference, reference + 1e-6 * (i + 1)) for i in range(3)]
    pairs[worst] = (reference, reference + np.array([[0.0, 0.0], [0.5, 0.0]]))
    measured = over_cases(*pairs)
    assert not measured.ok
    assert (measured.max_abs, measured.worst_case) == (0.5, THREE[worst].name)
    assert over_cases(*(p for i, p in enumerate(pairs) if i != worst)).ok


@pytest.mark.parametrize("bad", [np.nan, np.inf, -np.inf])
@pytest.mark.parametrize("position", [0, 1, 2])
@pytest.mark.parametrize("side", [0, 1])
def test_nan_and_inf_in_any_case_are_not_overwritten_by_another(bad: float, position: int, side: int) -> None:
    pairs = [[np.ones((2, 4)), np.ones((2, 4))] for _ in range(3)]
    pairs[position][side][1, 2] = bad
    measured = over_cases(*((a, b) for a, b in pairs))
    assert not measured.ok
    assert (measured.max_abs, measured.worst_case) == (np.inf, THREE[position].name)


@pytest.mark.parametrize("order", [(0, 1, 2), (1, 2, 0), (2, 0, 1)])
def test_each_figure_is_the_worst_of_the_cases(order: tuple[int, ...]) -> None:
    """Cosine, relative difference, argmax and magnitude may each be worst in another case."""
    turned = (np.array([[4.0, 3.0], [0.0, 1.0]]), np.array([[3.0, 4.0], [0.0, 1.0]]))  # the cosine of row 0 is 0.96
    shifted = (np.array([[1.0, 40.0], [2.0, 8.0]]), np.array([[2.5, 40.0], [2.0, 8.0]]))  # 1.5 off, relative to 1
    large = (np.array([[7.0, -100.0], [3.0, 1.0]]), np.array([[7.0, -100.0], [3.0, 1.0]]))
    measured = over_cases(*((turned, shifted, large)[i] for i in order))
    assert measured.cosine == pytest.approx(0.96)
    assert measured.argmax_agreement == 0.5
    assert (measured.max_abs, measured.max_rel, measured.largest) == (1.5, 1.5, 100.0)
    assert measured.worst_case == THREE[order.index(1)].name


def test_every_output_has_to_agree() -> None:
    good, off = np.ones((2, 4)), np.full((2, 4), 2.0)
    for first, second in ((good, off), (off, good)):
        parity = compare([CASE], [{"a": good, "b": good}], lambda _, f=first, s=second: {"a": f, "b": s}, per_token=[])
        assert [o.ok for o in parity.outputs] == [first is good, second is good]
        assert not parity.ok and parity.to_json()["ok"] is False


def test_a_difference_of_the_tolerance_itself_is_allowed() -> None:
    reference = np.zeros((1, 2))
    assert verdict(reference, reference + 0.25, per_token=False, tolerance=0.25).ok
    assert not verdict(reference, reference + 0.2500001, per_token=False, tolerance=0.25).ok
    assert not verdict(
        reference, reference + 1e-9, per_token=False, tolerance=0.0
    ).ok  # 0 is a tolerance, not "none given"


@pytest.mark.parametrize(
    ("dtype", "allowed"), [("float32", 1e-4), ("float16", 2e-2), ("bfloat16", 1e-1), ("int8", 1e-1)]
)
def test_each_dtype_has_its_tolerance(dtype: str, allowed: float) -> None:
    reference = np.zeros((1, 2))
    assert verdict(reference, reference + 0.99 * allowed, per_token=False, dtype=dtype).ok
    assert not verdict(reference, reference + 1.01 * allowed, per_token=False, dtype=dtype).ok


def test_a_case_without_its_answer_is_an_error() -> None:
    with pytest.raises(ValueError, match="zip"):
        compare(THREE, [{"y": np.ones((2, 4))}], lambda _: {"y": np.ones((2, 4))}, per_token=[])


def test_relative_differences_have_a_floor_of_a_thousandth_of_the_largest() -> None:
    reference, got = np.array([[100.0, 0.0]]), np.array([[100.0, 0.2]])
    assert verdict(reference, got, per_token=False).outputs[0].max_rel == pytest.approx(2.0)
    zeros = np.zeros((1, 2))
    assert verdict(zeros, zeros + 1, per_token=False).outputs[0].max_rel == 0.0


def test_a_vector_beside_none_points_nowhere_alike() -> None:
    reference, zeros = np.full((2, 4096), 1 / 64), np.zeros((2, 4096))
    for pair in ((reference, zeros), (zeros, reference)):
        judged = verdict(*pair, per_token=False).outputs[0]
        assert judged.cosine == 0.0
        assert not over_cases(pair, dtype="bfloat16-weights").ok  # the difference alone is within the tolerance
    assert verdict(zeros, zeros, per_token=False).outputs[0].cosine == 1.0
    noise = np.concatenate([np.ones((1, 4096)), zeros[:1] + 1e-12])
    assert verdict(np.concatenate([np.ones((1, 4096)), zeros[:1]]), noise, per_token=False).outputs[0].cosine == 1.0


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


@pytest.mark.parametrize(("turn", "ok"), [(0.01, True), (0.02, False)])
def test_vectors_with_weights_in_bfloat16_have_to_point_alike(turn: float, ok: bool) -> None:
    """A cosine of 0.99995 passes and one of 0.9998 does not, though both differences are within the tolerance."""
    reference = np.array([[1.0, 0.0]])
    got = np.array([[np.cos(turn), np.sin(turn)]])
    measured = over_cases((reference, got), dtype="bfloat16-weights")
    assert measured.is_near and measured.ok is ok and measured.points_alike is ok
    assert over_cases((reference, got), dtype="bfloat16-weights", tolerance=0.05).ok
    assert over_cases((reference, got), dtype="bfloat16").ok


def test_logits_with_weights_in_bfloat16_are_judged_by_their_differences() -> None:
    reference, got = np.array([[1.0, 0.1]]), np.array([[1.0, 0.14]])
    judged = compare([CASE], [{"logits": reference}], lambda _: {"logits": got}, per_token=[], dtype="bfloat16-weights")
    assert judged.ok and judged.outputs[0].cosine < 0.9999


EMPTY = Case("rows without a token", {"input_ids": MASK, "attention_mask": 0 * MASK}, empty_rows=True)


@pytest.mark.parametrize("other", [1.0, 2.0, np.nan, None])
def test_rows_without_a_token_decide_nothing_but_whether_they_are_answered(other: float | None) -> None:
    """A runtime may refuse them, too."""
    reference = {"y": np.ones((2, 3))}

    def run(feeds: dict[str, np.ndarray]) -> dict[str, np.ndarray]:
        if feeds["attention_mask"].any():
            return reference
        if other is None:
            raise RuntimeError("no token")
        return {"y": other * reference["y"]}

    parity = compare([THREE[0], EMPTY], [reference, reference], run, per_token=[])
    assert parity.ok and parity.cases == ["first"]
    assert parity.empty_rows == (other == 1.0) == parity.to_json()["empty_rows"]
    assert not compare([THREE[0]], [reference], run, per_token=[]).empty_rows, "not compared is not answered"
