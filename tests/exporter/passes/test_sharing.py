"""Equal weights are stored once."""

import numpy as np
import onnx_ir as ir
import pytest

from headway.exporter.graph.edit import constant
from headway.exporter.passes.cuts import set_array
from headway.exporter.passes.sharing import ShareWeights, share

from tests.support.pass_checks import answers, largest_difference


def graph_of(arrays: dict[str, np.ndarray]) -> ir.Graph:
    """Return a graph that only holds initializers."""
    tensors = [ir.tensor(a, name=n) for n, a in arrays.items()]
    held = [ir.Value(name=t.name, shape=t.shape, type=ir.TensorType(t.dtype), const_value=t) for t in tensors]
    return ir.Graph([], [], nodes=[], initializers=held, opset_imports={"": 23})


def test_equal_weights_are_stored_once(bert_model: ir.Model) -> None:
    model = bert_model.clone()
    names = [f"encoder.layer.{i}.intermediate.dense.weight" for i in (0, 2)]
    first = np.array(constant(model.graph.initializers[names[0]]))
    set_array(model.graph.initializers[names[1]], first)
    wanted = answers(model)
    exact = ShareWeights()
    exact(model)
    assert exact.report is not None and exact.report.changes[names[1]] == f"is {names[0]}"
    assert names[1] not in model.graph.initializers
    assert largest_difference(wanted, answers(model)) == 0
    near = bert_model.clone()
    set_array(near.graph.initializers[names[1]], first * 1.01)
    untouched = near.clone()
    ShareWeights()(untouched)
    assert names[1] in untouched.graph.initializers
    ShareWeights(tolerance=0.02)(near)
    assert names[1] not in near.graph.initializers


@pytest.mark.parametrize(
    ("apart", "shared"), [(0.0, True), (0.02, True), (0.25, True), (0.2500001, False), (0.5, False)]
)
def test_weights_are_shared_up_to_the_tolerance_and_no_further(apart: float, shared: bool) -> None:
    """The distance is relative to the first one's norm; of whole powers of two it is exact."""
    first = np.full((4, 4), 2.0, np.float64)
    graph = graph_of({"first": first, "second": first * (1 + apart)})
    assert share(graph, tolerance=0.25) == ({"second": "first"} if shared else {})
    assert ("second" in graph.initializers) is not shared


def test_matrices_that_are_5_percent_apart_stay(bert_model: ir.Model) -> None:
    model = bert_model.clone()
    names = [f"encoder.layer.{i}.intermediate.dense.weight" for i in (0, 2)]
    set_array(model.graph.initializers[names[1]], np.array(constant(model.graph.initializers[names[0]])) * 1.05)
    wanted = answers(model)
    ShareWeights(tolerance=0.02)(model)
    assert names[1] in model.graph.initializers
    assert largest_difference(wanted, answers(model)) == 0


def test_what_is_no_matrix_of_floats_is_shared_only_where_equal() -> None:
    vector, numbers = np.arange(1.0, 5.0, dtype=np.float32), np.full((2, 2), 100)
    graph = graph_of({
        "vector": vector, "near vector": vector * np.float32(1.001), "same vector": vector.copy(),
        "numbers": numbers, "near numbers": numbers + 1, "same numbers": numbers.copy(),
        "half": np.ones((2, 2), np.float16), "single": np.ones((2, 2), np.float32), "other shape": np.ones((4, 1), np.float32),
        "one": np.ones(1, np.float32), "one more": np.ones(1, np.float32),
    })  # fmt: skip
    assert share(graph, tolerance=0.1) == {"same vector": "vector", "same numbers": "numbers"}


def test_only_tensors_of_enough_axes_and_elements_are_shared() -> None:
    pair, row, matrix = np.ones(2, np.float32), np.ones(3, np.float32), np.ones((2, 2), np.float32)
    arrays = {f"{name} {i}": a for name, a in (("pair", pair), ("row", row), ("matrix", matrix)) for i in (1, 2)}
    assert share(graph_of(arrays)) == {"pair 2": "pair 1", "row 2": "row 1", "matrix 2": "matrix 1"}
    assert share(graph_of(arrays), least=3) == {"row 2": "row 1", "matrix 2": "matrix 1"}
    assert share(graph_of(arrays), axes=2) == {"matrix 2": "matrix 1"}
    graph = graph_of(arrays)
    graph.outputs.append(graph.initializers["row 2"])  # an output keeps its name
    assert share(graph) == {"pair 2": "pair 1", "matrix 2": "matrix 1"}
