"""Parts of a graph run on chosen inputs."""

import numpy as np
import onnx_ir as ir
import pytest
from onnx import helper

from headway.errors import SourceError
from headway.exporter.graph.probe import Prober

from tests.support.hand_made import load


@pytest.fixture
def prober() -> Prober:
    n = helper.make_node
    nodes = [
        n("Gather", ["table", "input_ids"], ["x"]),
        n("Shape", ["x"], ["width"], start=2, end=3),
        n("Shape", ["x"], ["length"], start=1, end=2),
        n("Reshape", ["x", "odd"], ["broken"]),
    ]
    return Prober(load(nodes, {"table": np.ones((50, 6), np.float32), "odd": np.array([7])}, ["x"]), 50)


def values(prober: Prober) -> dict[str, ir.Value]:
    return dict(ir.convenience.create_value_mapping(prober.model.graph))


def test_inputs_follow_the_mask_and_the_vocabulary(prober: Prober) -> None:
    mask = np.array([[1, 1, 0]])
    feeds = prober.feeds(mask)
    assert np.array_equal(feeds["attention_mask"], mask) and feeds["attention_mask"].dtype == np.int64
    assert feeds["input_ids"].shape == (1, 3) and 3 <= feeds["input_ids"].min() <= feeds["input_ids"].max() < 50


def test_what_is_the_same_at_every_shape_is_told_from_what_varies(prober: Prober) -> None:
    assert prober.number(values(prober)["width"]) == 6.0
    assert prober.number(values(prober)["length"]) is None
    assert prober.number(values(prober)["x"]) is None
    assert prober.fixed_dims(values(prober)["x"]) == [None, None, 6]


def test_a_part_that_does_not_run_is_named(prober: Prober) -> None:
    with pytest.raises(SourceError, match="'broken' does not run"):
        prober.run([values(prober)["broken"]], prober.feeds(np.ones((2, 3), np.int64)))


@pytest.mark.parametrize("named", [True, False])
def test_a_swap_of_the_last_axes_is_known_by_running_it(named: bool) -> None:
    n = helper.make_node
    nodes = [
        n("Gather", ["table", "input_ids"], ["x"]),
        n("Reshape", ["x", "split"], ["by_token"]),
        n("Transpose", ["by_token"], ["heads"], perm=[0, 2, 1, 3]),
        n("Shape", ["heads"], ["sizes"]),
        n("Reshape", ["heads", "folded_sizes"], ["folded"]),
        n("Transpose", ["folded"], ["turned"], perm=[0, 2, 1]),
        n("Gather", ["sizes", "places"], ["unfolded_sizes"]),
        n("Reshape", ["turned", "unfolded_sizes"], ["swapped"]),
        n("Reshape", ["heads", "unfolded_sizes"], ["only_reshaped"]),
        n("Identity", ["swapped"], ["out"]),
    ]
    weights = {
        "table": np.random.default_rng(0).normal(size=(50, 6)).astype(np.float32),
        "split": np.array([0, 0, 2, 3]),
        "places": np.array([0, 1, 3, 2]),
        "folded_sizes": np.array([-1, 5, 3]),  # right for five tokens
    }
    prober = Prober(load(nodes, weights, ["out"]), 50)
    at = values(prober)
    if not named:  # heads and their size are found by running, too
        at["heads"].shape = None
    assert prober.swaps_last_axes(at["heads"], at["swapped"])
    assert not prober.swaps_last_axes(at["heads"], at["only_reshaped"])
    assert not prober.swaps_last_axes(at["heads"], at["heads"])
    assert not prober.swaps_last_axes(at["x"], at["swapped"])
