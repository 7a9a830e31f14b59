"""Passes that quantize: what they leave computes what the integers say, and reports name it."""

from pathlib import Path

import numpy as np
import onnx_ir as ir
import pytest
import torch

from headway.calibration.rounding import nearest
from headway.errors import UsageError
from headway.exporter.graph.anatomy import read_anatomy
from headway.exporter.graph.edit import constant
from headway.exporter.graph.torch_graph import TorchGraph
from headway.exporter.passes.cuts import set_array
from headway.exporter.passes.quantize import (
    PER_TOKEN,
    MigrateScales,
    QuantizeActivations,
    QuantizeEmbeddings,
    QuantizeRecurrent,
    QuantizeWeights,
    StoreHalf,
)

from tests.support.lstms import INPUT_WEIGHTS, STATE_WEIGHTS, both, lstm
from tests.support.one_node import model_of
from tests.support.pass_checks import answers, by_runtime, largest_difference
from tests.support.rounded import answers as rounded_answers
from tests.support.rounded import batches, distance
from tests.support.variants import canonical

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
    quantize = QuantizeWeights({name: matrix})
    quantize(model)
    assert quantize.report is not None and quantize.report.changes == {name: "int4, blocks of 8"}
    assert quantize.report.nbytes[1] < quantize.report.nbytes[0]
    assert largest_difference(answers(dequantized), answers(model)) < 1e-6
    assert largest_difference(answers(dequantized), by_runtime(model)) < 1e-5


def test_a_shift_goes_into_the_bias(bert_model: ir.Model) -> None:
    stem = "encoder.layer.0.intermediate.dense"
    model = bert_model.clone()
    before = weight_of(model, f"{stem}.bias")
    matrix = nearest(weight_of(model, f"{stem}.weight"))
    QuantizeWeights({f"{stem}.weight": matrix}, {f"{stem}.weight": np.full(64, 0.5, np.float32)})(model)
    assert np.array_equal(weight_of(model, f"{stem}.bias"), before + np.float32(0.5))


def test_an_embedding_has_a_scale_for_each_row(bert_model: ir.Model) -> None:
    model, dequantized = bert_model.clone(), bert_model.clone()
    array = weight_of(model, TABLE)
    QuantizeEmbeddings((TABLE,))(model)
    q, scale = weight_of(model, TABLE), weight_of(model, f"{TABLE}_scale")
    assert q.dtype == np.int8 and scale.shape == (len(array), 1)
    assert np.abs(q * scale - array).max() <= 0.51 * scale.max()
    set_array(dequantized.graph.initializers[TABLE], q * scale)
    assert largest_difference(answers(dequantized), answers(model)) < 1e-6
    with pytest.raises(UsageError, match=r"is .*INT8.* already"):
        QuantizeEmbeddings((TABLE,))(model)


@pytest.mark.parametrize("directions", [1, 2])
def test_weights_of_lstms_have_a_scale_for_each_row(directions: int) -> None:
    case = lstm(directions)
    model, dequantized = model_of(case), model_of(case)
    names = (INPUT_WEIGHTS, STATE_WEIGHTS)
    quantize = QuantizeRecurrent(names)
    quantize(model)
    assert quantize.report is not None and quantize.report.changes == dict.fromkeys(
        names, "int8 rows, computed in floats"
    )
    for name in names:
        array, q, scale = weight_of(dequantized, name), weight_of(model, name), weight_of(model, f"{name}_scale")
        assert q.dtype == np.int8 and scale.shape == (*array.shape[:2], 1) and np.abs(q).max() == 127
        assert (np.abs(q * scale - array) <= 0.51 * scale).all()
        set_array(dequantized.graph.initializers[name], q * scale)
    for wanted in both(dequantized, case):
        for got in both(model, case):
            assert max(np.abs(g - w).max() for g, w in zip(got, wanted, strict=True)) < 1e-5
    with pytest.raises(UsageError, match=r"is .*INT8.* already"):
        QuantizeRecurrent(names)(model)


def test_what_no_lstm_alone_reads_is_no_weight_of_one() -> None:
    model = model_of(lstm())
    with pytest.raises(UsageError, match="c2: there is no such weight"):
        QuantizeRecurrent(("c2",))(model)
    (node,) = model.graph
    other = ir.node("Neg", [model.graph.initializers[STATE_WEIGHTS]], name="other")
    model.graph.insert_after(node, other)
    with pytest.raises(UsageError, match=r"'other' \(Neg\) reads it too; only weights that LSTMs alone read"):
        QuantizeRecurrent((STATE_WEIGHTS,))(model)


@pytest.mark.parametrize("given", [PER_TOKEN, (-3.0, 3.0)])
def test_activations_are_rounded_where_quantized_weights_read_them(
    bert_model: ir.Model, given: str | tuple[float, float]
) -> None:
    model = bert_model.clone()
    up = read_anatomy(model).blocks[0].feed_forwards[0].up
    QuantizeWeights({up.weight: nearest(weight_of(model, up.weight))})(model)
    before, name = answers(model), str(up.input.name)
    quantize = QuantizeActivations({name: given})
    quantize(model)
    assert quantize.report is not None
    assert quantize.report.changes == {name: PER_TOKEN if given == PER_TOKEN else "-3 to 3"}
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
    migrate = MigrateScales(divided)
    migrate(model)
    assert largest_difference(wanted, answers(model)) < 1e-5
    assert migrate.report is not None
    assert migrate.report.changes[str(block.attention.o.input.name)] == "divided in the value projection"
    with pytest.raises(UsageError, match="nowhere: no projection reads"):
        MigrateScales({"nowhere": np.ones(3)})(model)


def test_value_projections_that_share_a_bias_are_not_divided(bert_model: ir.Model) -> None:
    """The activation of either is divided where it is read instead: the other layer must not feel it."""
    model = bert_model.clone()
    names = [f"encoder.layer.{i}.attention.self.value.bias" for i in (0, 2)]
    kept, other = (model.graph.initializers[n] for n in names)
    ir.convenience.replace_all_uses_with(other, kept)
    del model.graph.initializers[names[1]]
    wanted, before = answers(model), weight_of(model, names[0])
    part = read_anatomy(model).blocks[0].attention
    assert part is not None
    name = str(part.o.input.name)
    migrate = MigrateScales({name: np.linspace(0.5, 4, 32)})
    migrate(model)
    assert migrate.report is not None and migrate.report.changes[name].startswith("channels divided by 0.5 to 4")
    assert np.array_equal(weight_of(model, names[0]), before)
    assert largest_difference(wanted, answers(model)) < 1e-5


@pytest.mark.parametrize("shared", ["weight", "bias"])
def test_a_shared_tensor_of_a_projection_is_left_as_it_is(bert_model: ir.Model, shared: str) -> None:
    """A weight that others read cannot be divided for one of them; a bias that others read is not shifted."""
    model = bert_model.clone()
    names = [f"encoder.layer.{i}.attention.self.value.{shared}" for i in (0, 2)]
    ir.convenience.replace_all_uses_with(*(model.graph.initializers[n] for n in reversed(names)))
    del model.graph.initializers[names[1]]
    wanted, before = answers(model), weight_of(model, names[0])
    part = read_anatomy(model).blocks[0].attention
    assert part is not None
    if shared == "weight":
        MigrateScales({str(part.o.input.name): np.linspace(0.5, 4, 32)})(model)
        assert largest_difference(wanted, answers(model)) < 1e-5
    else:
        weight = part.v.weight
        QuantizeWeights({weight: nearest(weight_of(model, weight))}, {weight: np.ones(32, np.float32)})(model)
    assert np.array_equal(weight_of(model, names[0]), before)


def test_an_activation_of_shared_weights_is_not_migrated(bert_model: ir.Model) -> None:
    """Its rows would be multiplied for the other reader as well."""
    model = bert_model.clone()
    names = [f"encoder.layer.{i}.attention.output.dense.weight" for i in (0, 2)]
    ir.convenience.replace_all_uses_with(*(model.graph.initializers[n] for n in reversed(names)))
    del model.graph.initializers[names[1]]
    wanted = answers(model)
    part = read_anatomy(model).blocks[0].attention
    assert part is not None
    migrate = MigrateScales({str(part.o.input.name): np.linspace(0.5, 4, 32)})
    migrate(model)
    assert migrate.report is not None and migrate.report.changes == {}
    assert largest_difference(wanted, answers(model)) == 0


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


def test_float16_is_for_lstms_too() -> None:
    case = lstm()
    model, rounded = model_of(case), model_of(case)
    StoreHalf()(model)
    for name in (INPUT_WEIGHTS, STATE_WEIGHTS, "c2"):
        array = weight_of(rounded, name).astype(np.float16)
        assert np.array_equal(weight_of(model, name), array) and weight_of(model, name).dtype == np.float16
        set_array(rounded.graph.initializers[name], array.astype(np.float32))
    for got, wanted in zip(both(model, case), both(rounded, case), strict=True):
        assert max(np.abs(g - w).max() for g, w in zip(got, wanted, strict=True)) < 1e-6


@pytest.fixture(scope="module")
def model(bert: Path) -> ir.Model:
    return canonical(bert)


def test_weights_alone_are_the_graph_with_rounded_weights(model: ir.Model) -> None:
    names = [p.weight for b in read_anatomy(model).blocks for p in b.projections]
    made = model.clone()
    matrices = {n: nearest(constant(made.graph.initializers[n])) for n in names}  # type: ignore[arg-type]
    QuantizeWeights(matrices)(made)
    plain = TorchGraph(model)
    for name in names:
        plain.weights[name] = torch.from_numpy(matrices[name].dequantized())
    for batch in batches(2):
        with torch.no_grad():
            wanted = next(iter(plain(batch.feeds).values())).numpy()[batch.mask]
        assert np.abs(rounded_answers(made, batch) - wanted).max() < 1e-5
    before, after = read_anatomy(model), read_anatomy(made)
    assert [b.attention.heads for b in after.blocks if b.attention] == [4] * 4
    assert sum(m.q.nbytes + m.scale.nbytes for m in matrices.values()) == after.nbytes - (
        before.nbytes - sum(4 * m.q.size for m in matrices.values())
    )


def test_tables_are_looked_up_as_rows(model: ir.Model) -> None:
    name = "embeddings.word_embeddings.weight"
    made = model.clone()
    table = constant(model.graph.initializers[name])
    assert table is not None
    QuantizeEmbeddings((name,))(made)
    scale = np.abs(table).max(1, keepdims=True) / 127
    plain = TorchGraph(model)
    plain.weights[name] = torch.from_numpy((np.rint(table / scale) * scale).astype(np.float32))
    batch = batches(1)[0]
    with torch.no_grad():
        wanted = next(iter(plain(batch.feeds).values())).numpy()[batch.mask]
    assert np.abs(rounded_answers(made, batch) - wanted).max() < 1e-5
    assert read_anatomy(made).embeddings[name] == table.shape


def test_migration_leaves_the_answers_alone(model: ir.Model) -> None:
    made = model.clone()
    rng = np.random.default_rng(0)
    inputs = {str(p.input.name): p.in_features for b in read_anatomy(made).blocks for p in b.projections}
    one = MigrateScales({n: np.exp(rng.standard_normal(size)).astype(np.float32) for n, size in inputs.items()})
    one(made)
    assert one.report is not None and len(one.report.changes) == len(inputs) == 16
    assert sum("value projection" in v for v in one.report.changes.values()) == 4
    for batch in batches(2):
        assert np.abs(rounded_answers(made, batch) - rounded_answers(model, batch)).max() < 1e-4
    read_anatomy(made)


def test_half_is_half(model: ir.Model) -> None:
    made = model.clone()
    StoreHalf()(made)
    batch = batches(1)[0]
    assert distance(rounded_answers(made, batch), rounded_answers(model, batch)) < 2e-3
    assert read_anatomy(made).nbytes < 0.56 * read_anatomy(model).nbytes
    big = model.clone()
    name = "encoder.layer.0.output.dense.weight"
    array = constant(big.graph.initializers[name])
    assert array is not None
    array = array.copy()
    array[0, 0] = 1e5
    big.graph.initializers[name].const_value = ir.Tensor(array, name=name)
    with pytest.raises(UsageError, match=name):
        StoreHalf()(big)
