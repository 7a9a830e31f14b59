"""Passes that quantize: against torch, and refused where they do not fit."""

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
from headway.exporter.passes.quantize import (
    MigrateScales,
    QuantizeMatrices,
    QuantizeTables,
    StoreHalf,
)

from tests.support.rounded import answers, batches, distance
from tests.support.variants import canonical


@pytest.fixture(scope="module")
def model(bert: Path) -> ir.Model:
    return canonical(bert)


def test_weights_alone_are_the_graph_with_rounded_weights(model: ir.Model) -> None:
    names = [p.weight for b in read_anatomy(model).blocks for p in b.projections]
    made = model.clone()
    matrices = {n: nearest(constant(made.graph.initializers[n])) for n in names}  # type: ignore[arg-type]
    QuantizeMatrices(matrices)(made)
    plain = TorchGraph(model)
    for name in names:
        plain.weights[name] = torch.from_numpy(matrices[name].dequantized())
    for batch in batches(2):
        with torch.no_grad():
            wanted = next(iter(plain(batch.feeds).values())).numpy()[batch.mask]
        assert np.abs(answers(made, batch) - wanted).max() < 1e-5
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
    QuantizeTables((name,))(made)
    scale = np.abs(table).max(1, keepdims=True) / 127
    plain = TorchGraph(model)
    plain.weights[name] = torch.from_numpy((np.rint(table / scale) * scale).astype(np.float32))
    batch = batches(1)[0]
    with torch.no_grad():
        wanted = next(iter(plain(batch.feeds).values())).numpy()[batch.mask]
    assert np.abs(answers(made, batch) - wanted).max() < 1e-5
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
        assert np.abs(answers(made, batch) - answers(model, batch)).max() < 1e-4
    read_anatomy(made)


def test_half_is_half(model: ir.Model) -> None:
    made = model.clone()
    StoreHalf()(made)
    batch = batches(1)[0]
    assert distance(answers(made, batch), answers(model, batch)) < 2e-3
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
