"""Predictions are the table's own figures."""

import pytest

from headway.exporter.graph.anatomy import read_anatomy
from headway.exporter.passes.blocks import RemoveBlocks
from headway.exporter.passes.heads import RemoveHeads
from headway.exporter.passes.lowrank import SplitWeights
from headway.exporter.passes.neurons import RemoveNeurons
from headway.exporter.search.predict import predicted_ms, with_float_blocks
from headway.exporter.search.prepared_source import PreparedSource

from tests.support.searching import table


def test_the_parts_of_a_model_cost_what_the_table_says(source: PreparedSource) -> None:
    latencies, model = table(), source.model.clone()
    assert predicted_ms(latencies, model) == pytest.approx(latencies.full)
    RemoveHeads({0: [0, 1]})(model)
    assert predicted_ms(latencies, model) == pytest.approx(9.5)
    RemoveNeurons({(1, 0): range(64)})(model)
    assert predicted_ms(latencies, model) == pytest.approx(8.0)
    RemoveBlocks([2])(model)
    assert predicted_ms(latencies, model) == pytest.approx(5.0)


def test_a_split_part_costs_what_was_measured_at_its_rank(source: PreparedSource) -> None:
    latencies, model = table(), source.model.clone()
    latencies.neuron_rank = {16: 1.25, 32: 1.5}
    names = [p.weight for p in read_anatomy(model).blocks[0].feed_forwards[0].projections]
    SplitWeights(dict.fromkeys(names, 16), random=True)(model)
    assert predicted_ms(latencies, model) == pytest.approx(10.0 - 2.0 + 1.25)


def test_blocks_that_stay_float_take_the_float_time() -> None:
    assert with_float_blocks(0.5, 0, 4) == 0.5
    assert with_float_blocks(0.5, 1, 4) == pytest.approx(0.625)
    assert with_float_blocks(0.5, 9, 4) == 1.0
