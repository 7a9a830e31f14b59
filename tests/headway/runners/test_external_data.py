"""The names of a model's weight files, as they stand in it, wherever a tensor may stand."""

from pathlib import Path

import numpy as np
import onnx
import pytest
from onnx import TensorProto, helper, numpy_helper

from headway.errors import SourceError
from headway.runners.external_data import external_files


def outside(name: str, location: str) -> TensorProto:
    tensor = numpy_helper.from_array(np.zeros(3, np.float32), name)
    tensor.ClearField("raw_data")
    tensor.data_location = TensorProto.EXTERNAL
    for key, value in (("location", location), ("offset", "0"), ("length", "12")):
        tensor.external_data.add(key=key, value=value)
    return tensor


def test_every_place_of_a_tensor_is_looked_at(tmp_path: Path) -> None:
    value = helper.make_tensor_value_info("y", TensorProto.FLOAT, [3])
    inner = helper.make_graph([], "then", [], [value], [outside("y", "then.data")])
    constant = helper.make_node("Constant", [], ["c"], value=outside("c", "constant.data"))
    branch = helper.make_node("If", ["x"], ["y"], then_branch=inner, else_branch=inner)
    body = [helper.make_node("Constant", [], ["o"], value=outside("o", "function.data"))]
    function = helper.make_function("own", "F", [], ["o"], body, [helper.make_opsetid("", 20)])
    inline = numpy_helper.from_array(np.arange(300, dtype=np.float32), "inline")
    graph = helper.make_graph(
        [constant, branch], "main", [helper.make_tensor_value_info("x", TensorProto.BOOL, [])], [value],
        [inline, outside("w", "weights/model.data"), outside("v", "../outside.data")],
    )  # fmt: skip
    places = numpy_helper.from_array(np.arange(3), "i")
    graph.sparse_initializer.append(helper.make_sparse_tensor(outside("s", "sparse.data"), places, [9]))
    onnx.save(helper.make_model(graph, functions=[function]), tmp_path / "model.onnx")
    assert external_files(tmp_path / "model.onnx") == {
        "then.data", "constant.data", "function.data", "weights/model.data", "../outside.data", "sparse.data",
    }  # fmt: skip


@pytest.mark.parametrize("content", [b"", b"\x3a\xff\xff\xff\x7f", b"\x3b", b"\x80" * 12, b"\x3a\x05\x2a\x99"])
def test_what_is_no_model_is_named(content: bytes, tmp_path: Path) -> None:
    (tmp_path / "model.onnx").write_bytes(content)
    with pytest.raises(SourceError, match=r"model\.onnx: not an ONNX model, or damaged"):
        external_files(tmp_path / "model.onnx")
    with pytest.raises(SourceError, match="cannot be read"):
        external_files(tmp_path / "none.onnx")
