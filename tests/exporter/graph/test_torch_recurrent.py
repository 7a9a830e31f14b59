"""The LSTM of graphs is ONNX Runtime's."""

import numpy as np
import onnx
import onnx_ir as ir
import onnxruntime
import pytest
import torch

from headway.errors import SourceError
from headway.exporter.graph.torch_recurrent import RECURRENT

HIDDEN, INPUTS, TIME, BATCH = 5, 3, 6, 4


def _node(count: int, lengths: bool, **attributes: object) -> onnx.NodeProto:
    names = ["x", "w", "r", "b", *(["n"] if lengths else [])]
    direction = "bidirectional" if count == 2 else "forward"
    return onnx.helper.make_node("LSTM", names, ["y", "h", "c"], hidden_size=HIDDEN, direction=direction, **attributes)


@pytest.mark.parametrize("count", [1, 2])
@pytest.mark.parametrize("lengths", [False, True])
def test_it_gives_what_onnx_runtime_gives(count: int, lengths: bool) -> None:
    rng = np.random.default_rng(0)
    shapes = {
        "x": (TIME, BATCH, INPUTS),
        "w": (count, 4 * HIDDEN, INPUTS),
        "r": (count, 4 * HIDDEN, HIDDEN),
        "b": (count, 8 * HIDDEN),
    }
    arrays = {name: rng.normal(size=shape).astype(np.float32) for name, shape in shapes.items()}
    if lengths:
        arrays["n"] = np.array([6, 2, 4, 1], np.int32)
    inputs = [
        onnx.helper.make_tensor_value_info(n, onnx.helper.np_dtype_to_tensor_dtype(a.dtype), a.shape)
        for n, a in arrays.items()
    ]
    outputs = [onnx.helper.make_tensor_value_info(n, onnx.TensorProto.FLOAT, None) for n in "yhc"]
    graph = onnx.helper.make_graph([_node(count, lengths)], "g", inputs, outputs)
    model = onnx.helper.make_model(graph, opset_imports=[onnx.helper.make_opsetid("", 22)], ir_version=10)
    session = onnxruntime.InferenceSession(model.SerializeToString(), providers=["CPUExecutionProvider"])
    wanted = session.run(None, arrays)
    got = RECURRENT["LSTM"](ir.from_proto(_node(count, lengths)), [torch.from_numpy(a) for a in arrays.values()])
    assert all(np.abs(g.numpy() - w).max() < 1e-6 for g, w in zip(got, wanted, strict=True))


def test_what_torch_lacks_is_refused() -> None:
    node = ir.from_proto(_node(1, False, clip=3.0))
    with pytest.raises(SourceError, match="clipping"):
        RECURRENT["LSTM"](node, [torch.ones(1, 1, 3), torch.ones(1, 20, 3), torch.ones(1, 20, 5)])
