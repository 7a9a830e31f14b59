"""Fixtures and batches for tests of compression."""

from pathlib import Path

import numpy as np
import onnx_ir as ir
import pytest
import torch

from headway.calibration.batches import make_batches
from headway.exporter.graph.torch_graph import TorchGraph

from tests.support import models


@pytest.fixture(scope="module", autouse=True)
def own_cache(tmp_path_factory: pytest.TempPathFactory):
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("XDG_CACHE_HOME", str(tmp_path_factory.mktemp("cache")))
        yield


@pytest.fixture(scope="session")
def text(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return models.write_labeled(tmp_path_factory.mktemp("text") / "lines.jsonl", 150)


@pytest.fixture(scope="session")
def classifier(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return models.make_model(
        tmp_path_factory.mktemp("classifier"),
        "bert",
        "text-classification",
        num_hidden_layers=3,
        hidden_size=64,
        intermediate_size=256,
    )


def batches(count: int = 40, seed: int = 0) -> list:
    rng = np.random.default_rng(seed)

    def encode(texts, longest):
        rows = [np.array([1, *rng.integers(5, 290, int(t)), 2]) for t in texts]
        width = max(map(len, rows))
        ids = np.stack([np.pad(r, (0, width - len(r))) for r in rows])
        return {"input_ids": ids, "attention_mask": (ids > 0).astype(np.int64), "token_type_ids": np.zeros_like(ids)}

    return make_batches(encode, [str(5 + i % 20) for i in range(count)], longest=64, tokens=200)


def error(source: TorchGraph, model: ir.Model, made: list) -> float:
    graph, total = TorchGraph(model), 0.0
    with torch.no_grad():
        for batch in made:
            a, b = (g(batch.feeds)["last_hidden_state"][torch.from_numpy(batch.mask)] for g in (source, graph))
            total += float((a - b).square().sum())
    return total
