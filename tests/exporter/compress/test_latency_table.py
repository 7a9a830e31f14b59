"""The latency table: costs never fall as levels rise, and it says when it was measured."""

from datetime import UTC, datetime, timedelta

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from headway.exporter.compress.latency_table import LatencyTable, rising

from tests.support.evidence import WORK, table

LEVELS = st.dictionaries(st.integers(0, 40), st.floats(0, 9), min_size=1)


@given(LEVELS, st.integers(0, 40), st.integers(0, 40))
def test_costs_never_fall_as_levels_rise(costs: dict[int, float], a: int, b: int) -> None:
    made = LatencyTable("ort", WORK, 1.0, 0.0, heads=costs)
    low, high = sorted((a, b))
    assert made.attention(low) <= made.attention(high)


@given(LEVELS, st.integers(0, 2**32 - 1))
def test_a_fit_is_the_nearest_that_rises(costs: dict[int, float], seed: int) -> None:
    """No other costs that rise are nearer, by weighted squares."""
    rng = np.random.default_rng(seed)
    widths = {n: rng.uniform(0.1, 2.0) for n in costs}
    fitted = rising(costs, widths)
    assert list(fitted) == sorted(costs) and all(np.diff(list(fitted.values())) >= -1e-12)

    def off(made: dict[int, float]) -> float:
        return sum(((made[n] - costs[n]) / widths[n]) ** 2 for n in costs)

    for _ in range(10):
        other = dict(
            zip(fitted, np.sort(np.array(list(fitted.values())) + rng.normal(0, 0.3, len(fitted))), strict=True)
        )
        assert off(fitted) <= off(other) + 1e-9


def test_what_is_known_well_moves_little() -> None:
    """Of two levels in the wrong order, the one that was measured badly gives way."""
    fitted = rising({1: 2.0, 2: 1.0}, {1: 0.01, 2: 1.0})
    assert fitted[1] == fitted[2] == pytest.approx(2.0, abs=1e-3)
    assert rising({}, {}) == {}


def test_a_table_tells_its_age() -> None:
    made = table()
    assert made.age_days == 0 and LatencyTable.from_json(made.to_json()) == made
    made.measured_at = (datetime.now(UTC) - timedelta(days=40, hours=1)).isoformat()
    assert made.age_days == 40 and LatencyTable.from_json(made.to_json()).digest == made.digest != table().digest
    made.measured_at = (datetime.now(UTC) + timedelta(days=2)).isoformat()
    with pytest.raises(ValueError, match="yet to come"):
        LatencyTable.from_json(made.to_json())
