"""Projections in a canonical graph, whole and in two factors."""

import onnx_ir as ir
import pytest

from headway.errors import SourceError
from headway.exporter.graph.anatomy import read_anatomy
from headway.exporter.graph.edit import nodes
from headway.exporter.graph.projections import (
    as_projection,
    has_residual,
    is_first_half,
    projection_after,
    projection_behind,
    projections_behind,
    second_half,
)
from headway.exporter.passes.lowrank import SplitWeights

LAYER = "bert.encoder.layer.0"


def test_sizes_and_bias_are_read(bert_model: ir.Model) -> None:
    up = read_anatomy(bert_model).blocks[0].feed_forwards[0].up
    assert (up.in_features, up.out_features, up.rank, up.first) == (32, 64, None, None)
    assert up.weight == f"{LAYER}.intermediate.dense.weight" and up.bias is not None
    assert up.multiplications == 32 * 64 and up.nodes == (up.node,)
    assert up.output is up.bias.outputs[0] and not has_residual(up)


def test_two_factors_are_one_projection(bert_model: ir.Model) -> None:
    model = bert_model.clone()
    SplitWeights({f"{LAYER}.output.dense.weight": 5})(model)
    down = read_anatomy(model).blocks[0].feed_forwards[0].down
    assert (down.in_features, down.out_features, down.rank) == (64, 32, 5)
    assert down.first is not None and is_first_half(down.first) and not is_first_half(down.node)
    assert second_half(down.first) is down.node and as_projection(down.first) == as_projection(down.node)
    assert down.input is down.first.inputs[0] and down.multiplications == 5 * (64 + 32) and has_residual(down)


def test_the_projections_of_an_attention_are_the_nearest(bert_model: ir.Model) -> None:
    attention = nodes(bert_model.graph, "Attention")[0]
    assert projection_behind(attention.inputs[0], attention, "query").weight.endswith("self.query.weight")
    assert projection_after(attention.outputs[0], attention).weight.endswith("attention.output.dense.weight")
    behind = [as_projection(n).weight.rsplit(".", 2)[-2] for n in projections_behind(attention.outputs[0])]
    assert behind == ["query", "key", "value"]


def test_a_missing_projection_is_named(bert_model: ir.Model) -> None:
    attention = nodes(bert_model.graph, "Attention")[0]
    ids = bert_model.graph.inputs[0]
    with pytest.raises(SourceError, match="its query comes from 0 projections"):
        projection_behind(ids, attention, "query")
    with pytest.raises(SourceError, match="no output projection"):
        projection_after(bert_model.graph.outputs[0], attention)
