"""A graph of one LSTM with lengths, whose weights are constants."""

import numpy as np
import onnx_ir as ir
import onnxruntime
import torch

from headway.exporter.graph.torch_graph import TorchGraph

from tests.support.one_node import OneNode, one

INPUT_WEIGHTS, STATE_WEIGHTS = "c0", "c1"
"""Names of the weights in the graph."""

_HIDDEN, _INPUTS, _TIME, _BATCH = 5, 3, 6, 4
_LENGTHS = np.array([6, 2, 4, 1], np.int32)


def lstm(directions: int = 2) -> OneNode:
    """Return an LSTM; the first row of its weights of inputs is zero."""
    rng = np.random.default_rng(0)

    def weights(*shape: int) -> np.ndarray:
        return rng.normal(size=(directions, *shape)).astype(np.float32)

    inputs, states, bias = weights(4 * _HIDDEN, _INPUTS), weights(4 * _HIDDEN, _HIDDEN), weights(8 * _HIDDEN)
    inputs[0, 0] = 0
    x = rng.normal(size=(_TIME, _BATCH, _INPUTS)).astype(np.float32)
    direction = "bidirectional" if directions == 2 else "forward"
    return one("LSTM", x, inputs, states, bias, _LENGTHS, outputs=3, hidden_size=_HIDDEN, direction=direction)


def both(model: ir.Model, case: OneNode) -> list[list[np.ndarray]]:
    """Return the outputs of a model for a case's input, by torch and by ONNX Runtime."""
    with torch.no_grad():
        ours = [t.numpy() for t in TorchGraph(model)({"x": case.x}).values()]
    proto = ir.to_proto(model)
    for out in proto.graph.output:
        out.type.tensor_type.elem_type = int(ir.DataType.FLOAT)
    session = onnxruntime.InferenceSession(proto.SerializeToString(), providers=["CPUExecutionProvider"])
    return [ours, session.run(None, {"x": case.x})]
