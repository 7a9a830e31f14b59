"""Removal against brute force."""

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from headway.calibration.removal import removal_order


def brute(weight: np.ndarray, inputs: np.ndarray, outputs: np.ndarray, gone: list[int]) -> float:
    """Least `tr(ΔWᵀ H ΔW G)` over all changes that make the rows in `gone` zero: by solving for the others."""
    stay = [i for i in range(len(weight)) if i not in gone]
    new = np.zeros_like(weight)
    if stay:
        new[stay] = np.linalg.solve(inputs[np.ix_(stay, stay)], inputs[stay] @ weight)
    d = new - weight
    return float(np.trace(d.T @ inputs @ d @ outputs))


@settings(max_examples=20, deadline=None)
@given(units=st.integers(2, 6), unit=st.integers(1, 3), out=st.integers(1, 5), seed=st.integers(0, 99))
def test_removal_costs_what_the_best_repair_leaves(units: int, unit: int, out: int, seed: int) -> None:
    rng = np.random.default_rng(seed)
    n = units * unit
    x, g = rng.standard_normal((4 * n + 5, n)) * rng.random(n), rng.standard_normal((50, out))
    inputs, outputs, weight = x.T @ x / len(x), g.T @ g / len(g), rng.standard_normal((n, out))
    damped = inputs + 1e-2 * np.diag(inputs).mean() * np.eye(n)
    found = removal_order(weight, inputs, None, outputs, unit=unit, at_once=1)
    assert sorted(found.order) == list(range(units))
    for count in range(units + 1):
        gone = [int(u) * unit + i for u in found.order[:count] for i in range(unit)]
        assert found.loss[count] == pytest.approx(brute(weight, damped, outputs, gone), rel=1e-5, abs=1e-9)
    cheapest = min(brute(weight, damped, outputs, [u * unit + i for i in range(unit)]) for u in range(units))
    assert found.loss[1] == pytest.approx(cheapest, rel=1e-5)
    assert found.kept(2) == sorted(found.order[-2:].tolist())


def test_a_constant_input_costs_nothing_where_a_bias_takes_it() -> None:
    rng = np.random.default_rng(0)
    x = rng.standard_normal((200, 4))
    x[:, 2] = 5.0
    inputs, mean = x.T @ x / 200, x.mean(0)
    weight = rng.standard_normal((4, 3))
    assert removal_order(weight, inputs, mean, np.eye(3), at_once=1).order[0] == 2
    assert removal_order(weight, inputs, None, np.eye(3), at_once=1).order[0] != 2
