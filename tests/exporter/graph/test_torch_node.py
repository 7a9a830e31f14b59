"""What a node asks for, and how one is refused."""

import onnx_ir as ir
import pytest
import torch

from headway.errors import SourceError
from headway.exporter.graph.torch_node import axes_of, dtype_of, given, no_counterpart, not_computed


def test_inputs_that_are_left_out_are_none() -> None:
    assert given([1, None], 0) == 1
    assert given([1, None], 1) is None and given([1], 1) is None


def test_axes_come_from_an_input_or_an_attribute() -> None:
    bare = ir.node("ReduceSum", [])
    with_attribute = ir.node("ReduceSum", [], attributes={"axes": [-1, 0]})
    assert axes_of(bare, [None, [1, 2]], 1) == [1, 2] and axes_of(bare, [None, 3], 1) == [3]
    assert axes_of(with_attribute, [None], 1) == [-1, 0] and axes_of(bare, [None], 1) is None
    assert axes_of(with_attribute, [None, []], 1) == []


def test_a_refusal_names_node_operator_domain_and_what_to_do() -> None:
    node = ir.node("Cast", [], name="n")
    assert dtype_of(node, int(ir.DataType.INT64)) == torch.int64
    with pytest.raises(SourceError, match=r"node 'n' \(Cast, ai.onnx\): the type string has no counterpart"):
        dtype_of(node, int(ir.DataType.STRING))
    foreign = ir.node("Odd", [], name="n", domain="own")
    assert str(no_counterpart(foreign)).startswith("node 'n' (Odd, own): the operator has no counterpart in torch")
    refused = str(not_computed(node, RuntimeError("sizes\ndo not match")))
    assert "(sizes do not match)" in refused and "headway export" in refused and "\n" not in refused
