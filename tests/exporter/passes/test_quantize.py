"""Passes that quantize: what they leave computes what the integers say, and reports name it."""

import numpy as np
import onnx_ir as ir
import pytest

from headway.calibration.rounding import nearest
from headway.errors import UsageError
from headway.exporter.graph.anatomy import read_anatomy
from headway.exporter.graph.edit import constant
from headway.exporter.passes.cuts import set_array
from headway.exporter.passes.quantize import (
    PER_TOKEN,
    MigrateScales,
    QuantizeMatrices,
    QuantizeTables,
    QuantizeValues,
    StoreHalf,
)

from tests.support.pass_checks import answers, by_runtime, largest_difference

TABLE = "embeddings.word_embeddings.weight"


def weight_of(model: ir.Model, name: str) -> np.ndarray:
    array = constant(model.graph.initializers[name])
    assert array is not None
    return np.array(array)


def test_weights_compute_what_their_integers_stand_for(bert_model: ir.Model) -> None:
    name = "encoder.layer.0.intermediate.dense.weight"
    model, dequantized = bert_model.clone(), bert_model.clone()
    matrix = nearest(weight_of(model, name), bits=4, block=8)
    set_array(dequantized.graph.initializers[name], matrix.dequantized())
    one = QuantizeMatrices({name: matrix})
    one(model)
    assert one.report is not None and one.report.changes == {name: "int4, blocks of 8"}
    assert one.report.nbytes[1] < one.report.nbytes[0]
    assert largest_difference(answers(dequantized), answers(model)) < 1e-6
    assert largest_difference(answers(dequantized), by_runtime(model)) < 1e-5


def test_a_shift_goes_into_the_bias(bert_model: ir.Model) -> None:
    stem = "encoder.layer.0.intermediate.dense"
    model = bert_model.clone()
    before = weight_of(model, f"{stem}.bias")
    matrix = nearest(weight_of(model, f"{stem}.weight"))
    QuantizeMatrices({f"{stem}.weight": matrix}, {f"{stem}.weight": np.full(64, 0.5, np.float32)})(model)
    assert np.array_equal(weight_of(model, f"{stem}.bias"), before + np.float32(0.5))


def test_an_embedding_has_a_scale_for_each_row(bert_model: ir.Model) -> None:
    model, dequantized = bert_model.clone(), bert_model.clone()
    array = weight_of(model, TABLE)
    QuantizeTables((TABLE,))(model)
    q, scale = weight_of(model, TABLE), weight_of(model, f"{TABLE}_scale")
    assert q.dtype == np.int8 and scale.shape == (len(array), 1)
    assert np.abs(q * scale - array).max() <= 0.51 * scale.max()
    set_array(dequantized.graph.initializers[TABLE], q * scale)
    assert largest_difference(answers(dequantized), answers(model)) < 1e-6
    with pytest.raises(UsageError, match=r"is .*INT8.* already"):
        QuantizeTables((TABLE,))(model)


@pytest.mark.parametrize("given", [PER_TOKEN, (-3.0, 3.0)])
def test_activations_are_rounded_where_quantized_weights_read_them(
    bert_model: ir.Model, given: str | tuple[float, float]
) -> None:
    model = bert_model.clone()
    up = read_anatomy(model).blocks[0].feed_forwards[0].up
    QuantizeMatrices({up.weight: nearest(weight_of(model, up.weight))})(model)
    before, name = answers(model), str(up.input.name)
    one = QuantizeValues({name: given})
    one(model)
    assert one.report is not None
    assert one.report.changes == {name: PER_TOKEN if given == PER_TOKEN else "-3 to 3"}
    assert 0 < largest_difference(before, answers(model)) < 0.1
    # A value half-way between two levels may go either way.
    assert largest_difference(answers(model), by_runtime(model)) < 5e-3


def test_migration_is_exact(bert_model: ir.Model) -> None:
    model = bert_model.clone()
    wanted = answers(model)
    block = read_anatomy(model).blocks[0]
    assert block.attention is not None
    rng = np.random.default_rng(0)
    divided = {str(v.name): np.exp(rng.standard_normal(32)) for v in (block.attention.o.input, block.attention.q.input)}
    one = MigrateScales(divided)
    one(model)
    assert largest_difference(wanted, answers(model)) < 1e-5
    assert one.report is not None
    assert one.report.changes[str(block.attention.o.input.name)] == "divided in the value projection"
    with pytest.raises(UsageError, match="nowhere: no projection reads"):
        MigrateScales({"nowhere": np.ones(3)})(model)


def test_half_the_bytes_and_the_same_arithmetic(bert_model: ir.Model) -> None:
    model, rounded = bert_model.clone(), bert_model.clone()
    for value in rounded.graph.initializers.values():
        array = constant(value)
        if array is not None and array.ndim == 2 and array.dtype == np.float32:
            set_array(value, array.astype(np.float16).astype(np.float32))
    StoreHalf()(model)
    assert largest_difference(answers(rounded), answers(model)) == 0
    large = bert_model.clone()
    set_array(large.graph.initializers[TABLE], weight_of(large, TABLE) + np.float32(1e5))
    with pytest.raises(UsageError, match=f"{TABLE}: .* is beyond float16"):
        StoreHalf()(large)
