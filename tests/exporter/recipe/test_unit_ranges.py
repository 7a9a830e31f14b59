"""Numbers of units as ranges, there and back."""

import pytest
from hypothesis import given
from hypothesis import strategies as st
from pydantic import TypeAdapter, ValidationError

from headway.exporter.recipe.unit_ranges import UnitRanges, from_ranges, to_ranges


@given(st.sets(st.integers(0, 200)))
def test_numbers_come_back(units: set[int]) -> None:
    assert from_ranges(to_ranges(sorted(units))) == sorted(units)


def test_runs_are_written_short() -> None:
    assert to_ranges([0, 1, 2, 3, 5, 7, 8]) == "0-3 5 7-8"
    assert to_ranges([]) == "" and to_ranges([4]) == "4"


@pytest.mark.parametrize("text", ["a", "1,2", "3-1", "1-3 3", "5 4", " 1", "1 ", "-3", "0-99999999", "0-9999999"])
def test_what_is_no_range_is_refused(text: str) -> None:
    with pytest.raises(ValueError, match="ranges"):
        from_ranges(text)
    with pytest.raises(ValidationError, match="ranges"):
        TypeAdapter(UnitRanges).validate_python(text)
