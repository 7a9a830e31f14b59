"""Shape arithmetic on plain integers, against numpy."""

from typing import Any

import numpy as np
import onnx_ir as ir
import pytest
import torch

from headway.exporter.graph.torch_sizes import SIZE_OPERATORS, plain_numbers, size_as_tensor, sizes_of, stays_size


@pytest.mark.parametrize(
    ("operator", "inputs", "wanted"),
    [
        ("Add", [[1, 2], [3]], [4, 5]),
        ("Sub", [5, 2], 3),
        ("Mul", [[2, 3], 4], [8, 12]),
        ("Div", [[7, 9], [2, 3]], [3, 3]),
        ("Div", [[-7, 7, -8], [2, -2, -2]], [-3, -3, 4]),
        ("Equal", [[1, -1, 3], -1], [False, True, False]),
        ("Where", [[False, True], [8, 9], [5]], [5, 9]),
        ("Where", [True, 8, 9], 8),
        ("Max", [[1, 5], [3]], [3, 5]),
        ("Min", [4, 2], 2),
        ("Mod", [[7, 9], 4], [3, 1]),
        ("Neg", [[2, 3]], [-2, -3]),
        ("Neg", [2], -2),
        ("ReduceProd", [[2, 3, 4]], [24]),
        ("Concat", [[1], [2, 3], 4], [1, 2, 3, 4]),
        ("Gather", [[5, 6, 7], 1], 6),
        ("Gather", [[5, 6, 7], [2, 0]], [7, 5]),
        ("Slice", [[5, 6, 7], [1], [3]], [6, 7]),
        ("Slice", [[5, 6, 7, 8], [0], [4], None, [2]], [5, 7]),
        ("Squeeze", [[5]], 5),
        ("Unsqueeze", [5], [5]),
        ("Reshape", [5, [1]], [5]),
        ("Cast", [[5]], [5]),
    ],
)
def test_operators_on_sizes(operator: str, inputs: list[Any], wanted: Any) -> None:
    assert SIZE_OPERATORS[operator](ir.node(operator, []), inputs) == wanted


def test_a_shape_is_a_list_of_integers() -> None:
    x = torch.zeros(2, 3, 4)
    assert sizes_of(ir.node("Shape", []), [x]) == [2, 3, 4]
    assert sizes_of(ir.node("Shape", [], attributes={"start": 1, "end": 2}), [x]) == [3]
    assert sizes_of(ir.node("Shape", []), [[7, 8]]) == [2] and sizes_of(ir.node("Shape", []), [7]) == []


def test_only_small_constants_are_numbers() -> None:
    def constant(array: np.ndarray) -> ir.Value:
        return ir.Value(name="c", const_value=ir.Tensor(array))

    assert plain_numbers(constant(np.array([1, 2]))) == [1, 2]
    assert plain_numbers(constant(np.array(3))) == 3
    assert plain_numbers(constant(np.zeros(65))) is None
    assert plain_numbers(None) is None and plain_numbers(ir.Value(name="computed")) is None


@pytest.mark.parametrize("size", [5, [2, 3], []])
def test_a_size_as_a_tensor(size: Any) -> None:
    made = size_as_tensor(size)
    assert made.dtype == torch.int64 and made.tolist() == size


def test_compared_sizes_are_a_tensor_of_bool() -> None:
    made = size_as_tensor([True, False])
    assert made.dtype == torch.bool and made.tolist() == [True, False]


def test_a_size_that_is_cast_to_float_is_none_any_more() -> None:
    kinds = (ir.DataType.INT64, ir.DataType.INT32, ir.DataType.FLOAT, ir.DataType.BOOL)
    casts = [ir.node("Cast", [], attributes={"to": int(kind)}) for kind in kinds]
    assert [stays_size(node) for node in casts] == [True, True, False, False]
    assert stays_size(ir.node("Add", [])) and stays_size(ir.node("Where", [])) and not stays_size(ir.node("MatMul", []))
