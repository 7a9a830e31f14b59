"""Two factors take fewer operations up to a rank."""

from hypothesis import given
from hypothesis import strategies as st

from headway.exporter.graph.ranks import break_even


@given(st.integers(2, 3000), st.integers(2, 3000))
def test_break_even(rows: int, columns: int) -> None:
    rank = break_even(rows, columns)
    assert rank * (rows + columns) < rows * columns <= (rank + 1) * (rows + columns)
