"""Pooling and normalization of sentence-transformers directories."""

from pathlib import Path

import numpy as np
import pytest
import torch

from headway.errors import SourceError
from headway.exporter.capture.capture import capture
from headway.exporter.capture.sentence import Normalize, pooling_modes, sentence_head
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
        found = TorchGraph(model)(feeds)["sentence_embedding"].numpy()
    assert np.abs(found - captured.reference.run(feeds)["sentence_embedding"]).max() < 1e-5


@pytest.mark.parametrize(
    ("config", "modes"),
    [
        ({"pooling_mode_mean_tokens": True, "pooling_mode_cls_token": False}, ["mean"]),
        ({"pooling_mode_cls_token": True, "pooling_mode_max_tokens": True}, ["cls", "max"]),
        ({"pooling_mode_mean_sqrt_len_tokens": True}, ["mean_sqrt_len_tokens"]),
        ({"pooling_mode": "lasttoken"}, ["lasttoken"]),
        ({"pooling_mode": ["cls", "mean"]}, ["cls", "mean"]),
    ],
)
def test_both_forms_of_the_modes_are_read(config: dict, modes: list[str]) -> None:
    assert pooling_modes(config) == modes


@pytest.mark.parametrize("config", [{}, {"pooling_mode": "median"}, {"pooling_mode_mean_tokens": False}])
def test_modes_that_are_not_known_are_refused(config: dict) -> None:
    with pytest.raises(SourceError, match="known modes: cls, mean"):
        pooling_modes(config)


def test_modules_that_are_not_known_are_refused(tmp_path: Path) -> None:
    with pytest.raises(SourceError, match="3_LSTM: sentence-transformers module LSTM"):
        sentence_head(({"kind": "LSTM", "folder": "3_LSTM"},))
    with pytest.raises(SourceError, match="the Dense module needs its weights"):
        sentence_head(({"kind": "Dense", "folder": str(tmp_path)},))
    assert [type(m) for m in sentence_head(({"kind": "Dropout"}, {"kind": "Normalize"}))] == [Normalize]
