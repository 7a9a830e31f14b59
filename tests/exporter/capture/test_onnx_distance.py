"""How far a file is from itself without the rounding that it does at run time."""

from pathlib import Path

import numpy as np
import pytest

from headway.errors import SourceError
from headway.exporter.capture.onnx_distance import Distance

MASK = {"attention_mask": np.array([[1, 1, 0]])}


def test_real_positions_alone_count() -> None:
    distance = Distance(["its rounding"])
    read = np.array([[[1.0, 0.0], [0.0, 2.0], [50.0, 0.0]]])
    own = read + np.array([[[0.0, 0.0], [0.25, 0.0], [0.0, 99.0]]])
    distance.add(MASK, {"hidden": own}, {"hidden": read})
    assert (distance.furthest, distance.largest, distance.rows, distance.agreeing) == (0.25, 2.0, 2, 2)
    a, b = own[0, :2].ravel(), read[0, :2].ravel()
    assert distance.cosine == pytest.approx(a @ b / np.sqrt((a @ a) * (b @ b)))
    assert distance.words() == (
        f", on the file without its rounding; the file itself differs from that by up to 0.25 where its largest output is 2 "
        f"(cosine {distance.cosine:.4f}, the same largest entry in 100.0 % of rows)"
    )
    assert distance.sentence() == distance.words().replace(
        ", on the file without its rounding", "its rounding is left out"
    )


def test_outputs_of_other_shapes_and_numbers_that_are_not_finite_do_not_count() -> None:
    distance = Distance(["its rounding"])
    distance.add(
        {},
        {"a": np.ones((2, 2)), "b": np.array([[np.inf, 1.0], [1.0, 2.0]])},
        {"a": np.ones((3, 2)), "b": np.ones((2, 2))},
    )
    assert distance.rows == 1 and distance.furthest == 1.0
    distance.add({}, {"ids": np.ones((2, 2), np.int64)}, {"ids": np.zeros((2, 2), np.int64)})
    assert distance.rows == 1


def test_a_graph_that_computes_something_else_is_refused() -> None:
    distance = Distance(["its rounding", "another"])
    distance.check(Path("m.onnx"))
    distance.add({}, {"a": np.array([[1.0, 0.0]])}, {"a": np.array([[0.0, 1.0]])})
    with pytest.raises(
        SourceError, match=r"m\.onnx: .* a cosine of 0\.00 to those without its rounding and another: it is damaged"
    ):
        distance.check(Path("m.onnx"))


def test_what_cannot_be_measured_is_said() -> None:
    assert Distance(["its rounding"]).words() == ", on the file without its rounding"
    assert Distance(["its rounding"], "module").words() == ", on the module without its rounding"
    assert Distance(["its rounding"]).sentence() == (
        "its rounding is left out; how far the file itself is from that was not measured"
    )
    assert Distance(["its rounding"], runs=False).words().endswith("that ONNX Runtime does not have for CPUs")
