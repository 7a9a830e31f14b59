"""Fronts of trials: exactly those bundles that no other beats."""

import pytest
from hypothesis import given
from hypothesis import strategies as st

from headway.checked import Mismatch
from headway.exporter.search.trial_record import TrialRecord, beats, decides, front_members

from tests.support.searching import record

FIGURES = st.lists(st.tuples(*[st.integers(0, 4)] * 3), max_size=12)


@given(FIGURES)
def test_nothing_of_a_front_is_beaten_and_all_else_is(figures: list[tuple[int, int, int]]) -> None:
    records = [record(i, lost, 1.0 + ms, 1.0 + mb) for i, (lost, ms, mb) in enumerate(figures)]
    members = front_members(records)
    taken = [decides(one) for one in members]
    assert len(set(taken)) == len(taken) and [one.measured.ms for one in members] == sorted(
        one.measured.ms for one in members
    )  # type: ignore[union-attr]
    assert not any(beats(a, b) for a in taken for b in taken)  # type: ignore[arg-type]
    for one in records:
        if one not in members:
            own = decides(one)
            assert any(beats(a, own) or a == own for a in taken)  # type: ignore[arg-type]


def test_texts_that_judge_choose_nothing() -> None:
    better = record(1, 5.0, 2.0, 2.0, quality=99.0)
    worse = record(2, 4.0, 2.0, 2.0, quality=10.0)
    assert front_members([better, worse]) == [worse]


def test_memory_decides_where_it_was_measured() -> None:
    one = record(1, 1.0, 1.0, 1.0)
    assert one.measured is not None and decides(one) == (1.0, 1.0, 1.0)
    assert decides(record(1, 1.0, 1.0, 1.0, measured=None, state="stopped")) is None


def test_records_come_back_from_json_and_damaged_ones_are_named() -> None:
    one = record(7, 1.0, 2.0, 3.0)
    assert TrialRecord.from_json(one.to_json()) == one
    with pytest.raises(Mismatch, match="state"):
        TrialRecord.from_json(one.to_json() | {"state": "gone"})
