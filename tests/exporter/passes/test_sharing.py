"""Equal weights are stored once."""

import numpy as np
import onnx_ir as ir

from headway.exporter.graph.edit import constant
from headway.exporter.passes.cuts import set_array
from headway.exporter.passes.sharing import ShareWeights

from tests.support.pass_checks import answers, largest_difference


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
