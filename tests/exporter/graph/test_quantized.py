"""Integers in the canonical graph: how they are held, and how they are found again."""

import numpy as np
import onnx_ir as ir
import pytest

from headway.calibration.rounding import nearest
from headway.exporter.graph.edit import consumers, nodes
from headway.exporter.graph.quantized import (
    fixed_scale,
    is_quantized,
    matrix_of,
    quantize_weight,
    readers_through,
    round_fixed,
    unrounded,
)

WEIGHT = "bert.encoder.layer.0.intermediate.dense.weight"


@pytest.mark.parametrize(("bits", "block"), [(8, None), (4, 8)])
def test_a_quantized_weight_is_found_at_its_matmul(bert_model: ir.Model, bits: int, block: int | None) -> None:
    model = bert_model.clone()
    weight = model.graph.initializers[WEIGHT]
    (matmul,) = consumers(weight)
    assert not is_quantized(model) and matrix_of(matmul) is None
    array = weight.const_value
    assert array is not None
    quantize_weight(model.graph, weight, nearest(array.numpy(), bits=bits, block=block))
    held = matrix_of(matmul)
    assert is_quantized(model) and held is not None and held[0] is weight
    assert weight.dtype == (ir.DataType.INT8 if bits == 8 else ir.DataType.INT4)
    assert held[1].name == f"{WEIGHT}_scale"
    assert matrix_of(nodes(model.graph, "Attention")[0]) is None


def test_a_rounded_activation_leads_back_to_itself(bert_model: ir.Model) -> None:
    model = bert_model.clone()
    (matmul,) = consumers(model.graph.initializers[WEIGHT])
    value = matmul.inputs[0]
    assert value is not None and unrounded(value) is value
    readers = consumers(value)
    rounded = round_fixed(model.graph, matmul, value, *fixed_scale(-1, 2, signed=False))
    matmul.replace_input_with(0, rounded)
    assert unrounded(rounded) is value
    assert set(readers_through(value)) == set(readers)


def test_a_range_of_zero_has_a_scale() -> None:
    for signed, dtype in ((True, np.int8), (False, np.uint8)):
        scale, zero = fixed_scale(0.0, 0.0, signed=signed)
        assert float(scale) == 1.0 and int(zero) == 0 and zero.dtype == dtype
