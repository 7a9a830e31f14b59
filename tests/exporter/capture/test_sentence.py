"""Pooling and normalization of sentence-transformers directories."""

from pathlib import Path

import numpy as np
import pytest
import torch

from headway.exporter.capture.capture import capture
from headway.exporter.graph.canonical import canonicalize
from headway.exporter.graph.torch_graph import TorchGraph
from headway.exporter.source.source import open_source

from tests.support import models


@pytest.mark.parametrize("pooling", ["mean", "cls", "max", "mean_sqrt_len_tokens", "weightedmean", "lasttoken"])
def test_sentence_heads(pooling: str, tmp_path: Path) -> None:
    captured = capture(open_source(str(models.make_sentence_model(tmp_path, pooling, dense=True))))
    model = canonicalize(captured.model, longest=captured.source.positions).model
    ids = np.random.default_rng(0).integers(5, 290, (2, 7))
    mask = np.array([[1] * 7, [1] * 4 + [0] * 3])
    feeds = {"input_ids": ids, "attention_mask": mask, "token_type_ids": np.zeros_like(ids)}
    with torch.no_grad():
        vectors = TorchGraph(model)(feeds)["sentence_embedding"].numpy()
    assert np.abs(vectors - captured.reference.run(feeds)["sentence_embedding"]).max() < 1e-5
