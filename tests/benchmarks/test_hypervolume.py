"""The volume that a set of points dominates, beside counting by chance."""

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from benchmarks.hypervolume import hypervolume

GRID = 5
POINT = st.tuples(*[st.integers(0, GRID)] * 3)


@given(st.lists(POINT, max_size=6))
def test_it_is_the_number_of_cells_that_some_point_beats(points: list[tuple[int, int, int]]) -> None:
    cells = np.stack(np.meshgrid(*[np.arange(GRID)] * 3, indexing="ij"), -1).reshape(-1, 3)
    counted = sum(any(all(np.array(p) <= cell) for p in points) for cell in cells)
    assert hypervolume(points, (GRID,) * 3) == pytest.approx(counted)


def test_axes_have_to_agree() -> None:
    assert (
        hypervolume([(0.5, 0.5)], (1, 1)) == 0.25
        and hypervolume([], (1, 1)) == 0
        and hypervolume([(2, 0)], (1, 1)) == 0
    )
    with pytest.raises(ValueError, match="2 axes"):
        hypervolume([(1.0,)], (1, 1))
