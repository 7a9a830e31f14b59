"""The order of removal and its costs, where they are known in closed form."""

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from headway.calibration.removal import DAMPING, Removal, removal_order


def moment(rng: np.random.Generator, size: int) -> np.ndarray:
    x = rng.standard_normal((4 * size + 5, size)) * rng.uniform(0.5, 2, size)
    return x.T @ x / len(x)


def damped(inputs: np.ndarray) -> np.ndarray:
    return inputs + DAMPING * np.diag(inputs).mean() * np.eye(len(inputs))


@settings(max_examples=20, deadline=None)
@given(units=st.integers(1, 8), unit=st.integers(1, 3), at_once=st.integers(1, 9), seed=st.integers(0, 99))
def test_removing_everything_costs_the_whole_output_however_many_go_at_once(
    units: int, unit: int, at_once: int, seed: int
) -> None:
    rng = np.random.default_rng(seed)
    inputs, outputs = moment(rng, units * unit), moment(rng, 3)
    weight = rng.standard_normal((units * unit, 3))
    removal = removal_order(weight, inputs, None, outputs, unit=unit, at_once=at_once)
    assert sorted(removal.order) == list(range(units)) and len(removal.loss) == units + 1
    assert removal.loss[0] == 0 and np.all(np.diff(removal.loss) >= 0)
    everything = np.trace(weight.T @ damped(inputs) @ weight @ outputs)
    assert removal.loss[-1] == pytest.approx(everything, rel=1e-6)


def test_independent_inputs_go_by_their_energy() -> None:
    inputs, weight = np.diag([4.0, 1.0, 9.0, 2.0]), np.array([[1.0], [3.0], [0.1], [0.5]])
    removal = removal_order(weight, inputs, None, np.eye(1), at_once=1)
    costs = np.diag(damped(inputs)) * np.square(weight[:, 0])
    assert removal.order.tolist() == np.argsort(costs).tolist()
    np.testing.assert_allclose(removal.loss[1:], np.cumsum(np.sort(costs)))


def test_outputs_without_a_gradient_do_not_count() -> None:
    weight = np.array([[1.0, 100.0], [2.0, 0.0]])
    removal = removal_order(weight, np.eye(2), None, np.diag([1.0, 0.0]), at_once=1)
    assert removal.order.tolist() == [0, 1]


def test_what_is_removed_last_stays() -> None:
    removal = Removal(np.array([3, 0, 2, 1]), np.arange(5.0))
    assert [removal.kept(n) for n in (0, 1, 3)] == [[], [1], [0, 1, 2]]


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


def test_inputs_that_are_constant_but_for_rounding() -> None:
    """Second moments in float32 leave less than nothing around their mean: nothing is lost with what a bias absorbs."""
    mean = np.linspace(-40, 40, 12, dtype=np.float32)
    inputs = np.outer(mean, mean).astype(np.float32) * (1 - 1e-4)
    removal = removal_order(np.ones((12, 3), np.float32), inputs, mean, np.eye(3))
    assert sorted(removal.order) == list(range(12)) and np.isfinite(removal.loss).all()


def test_what_cannot_be_told_goes_last_and_once() -> None:
    weight = np.array([[1.0], [np.nan], [3.0], [2.0]])
    removal = removal_order(weight, np.eye(4), None, np.eye(1), at_once=1)
    assert removal.order.tolist() == [0, 3, 2, 1]
