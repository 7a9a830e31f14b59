"""The merit of a bundle: 1 for the source, and better for whatever is better."""

import pytest
from hypothesis import given
from hypothesis import strategies as st

from headway.exporter.recipe.recipe import Recipe
from headway.exporter.validate.estimates import Estimate
from headway.exporter.validate.merit import POINTS_OF_A_HALVING, Standing, front_of, merit, merit_of, ordered

RATIOS = st.floats(0.01, 100.0)
POINTS = st.floats(-20.0, 100.0)
MORE = st.floats(1.001, 10.0)


def test_a_halving_is_the_drop_that_a_compression_allows_by_default() -> None:
    assert Recipe.model_fields["max_drop"].default == POINTS_OF_A_HALVING


def test_the_source_has_one() -> None:
    assert merit(1.0, 1.0, 0.0) == 1.0
    assert merit(2.0, 2.0, 0.0) == pytest.approx(2.0)
    assert merit(2.0, 2.0, POINTS_OF_A_HALVING) == pytest.approx(1.0)


@given(RATIOS, RATIOS, POINTS, MORE)
def test_more_speed_fewer_bytes_and_fewer_points_lost_are_better(
    speed: float, saving: float, lost: float, more: float
) -> None:
    before = merit(speed, saving, lost)
    assert merit(speed * more, saving, lost) > before
    assert merit(speed, saving * more, lost) > before
    assert merit(speed, saving, lost - more) > before


@given(RATIOS, RATIOS, POINTS, RATIOS, RATIOS, POINTS)
def test_steps_multiply_in_any_order(s: float, b: float, d: float, t: float, c: float, e: float) -> None:
    assert merit(s * t, b * c, d + e) == pytest.approx(merit(s, b, d) * merit(t, c, e), rel=1e-9)


@given(RATIOS, RATIOS, POINTS, MORE)
def test_speed_and_bytes_count_alike(speed: float, saving: float, lost: float, more: float) -> None:
    assert merit(speed, saving, lost) == pytest.approx(merit(saving, speed, lost), rel=1e-12)
    assert merit(speed * more, saving / more, lost) == pytest.approx(merit(speed, saving, lost), rel=1e-9)


@given(RATIOS, RATIOS, POINTS, MORE, st.floats(0.0, 5.0))
def test_its_interval_holds_that_of_every_part(
    speed: float, saving: float, lost: float, more: float, points: float
) -> None:
    parts = Standing(Estimate(speed, speed / more, speed * more), saving, Estimate(lost, lost - points, lost + points))
    found = merit_of(parts)
    assert (
        found.low
        <= merit(speed / more, saving, lost)
        <= found.value
        <= merit(speed, saving, lost - points)
        <= found.high
    )


@pytest.mark.parametrize(("speed", "saving"), [(0.0, 1.0), (1.0, -1.0), (float("nan"), 1.0)])
def test_what_is_no_ratio_is_refused(speed: float, saving: float) -> None:
    with pytest.raises(ValueError, match="above 0"):
        merit(speed, saving, 0.0)


def standing(speed: float, lost: float, half: float = 0.0) -> Standing:
    return Standing(Estimate(speed, speed - half, speed + half), 1.0, Estimate.exact(lost))


def test_bundles_are_ordered_and_those_that_overlap_are_not_told_apart() -> None:
    rows = ordered(
        [
            ("source", standing(1, 0)),
            ("fast", standing(4, 0, 0.5)),
            ("alike", standing(3.9, 0, 0.5)),
            ("bad", standing(4, 20)),
        ]
    )
    assert [name for name, *_ in rows] == ["fast", "alike", "source", "bad"]
    assert [apart for *_, apart in rows] == [True, False, True, True]


def test_a_bundle_is_told_apart_from_all_above_it() -> None:
    rows = ordered(
        [("wide", standing(3, 0, 1.5)), ("narrow", standing(2.9, 0, 0.05)), ("third", standing(2.3, 0, 0.4))]
    )
    assert [(name, apart) for name, *_, apart in rows] == [("wide", True), ("narrow", False), ("third", False)]


@given(st.lists(st.tuples(st.integers(0, 9), st.integers(0, 9)), min_size=1, max_size=20))
def test_nothing_beats_a_point_of_the_front(points: list[tuple[float, float]]) -> None:
    front = front_of(points)

    def beaten(p: tuple[float, float]) -> bool:
        return any(q[0] <= p[0] and q[1] <= p[1] and q != p for q in points)

    assert set(front) == {p for p in points if not beaten(p)} and front == sorted(front)
