"""A model with evidence and a made-up latency table, for tests of the search."""

import numpy as np
import pytest

from headway.exporter.compress.evidence import Evidence, collect
from headway.exporter.compress.latency_table import LatencyTable
from headway.exporter.compress.stopwatch import Workload
from headway.exporter.graph.anatomy import read_anatomy
from headway.exporter.graph.torch_graph import TorchGraph

from tests.support import models
from tests.support.variants import canonical

WORK = Workload(((1, 9),))


@pytest.fixture(scope="session")
def model(tmp_path_factory: pytest.TempPathFactory):
    directory = tmp_path_factory.mktemp("bert")
    return canonical(models.make_model(directory, "bert", intermediate_size=256, hidden_size=64))


@pytest.fixture(scope="session")
def evidence(model) -> Evidence:
    ids = np.random.default_rng(0).integers(5, 290, (8, 12))
    from headway.calibration.batches import Batch

    feeds = {"input_ids": ids, "attention_mask": np.ones_like(ids), "token_type_ids": np.zeros_like(ids)}
    return collect(TorchGraph(model), read_anatomy(model), [Batch(feeds, np.arange(8))], source="", text="")


def table(rank_cost: float = 0.1) -> LatencyTable:
    heads = {0: 0.0, 2: 0.5, 4: 1.0}
    neurons = {0: 0.0, 128: 1.0, 256: 2.0}
    return LatencyTable("ort", WORK, 7.0, 1.0, heads, neurons, {16: rank_cost}, {16: 2 * rank_cost})
