"""Attention that is no softmax over all tokens goes through as ordinary operators, and what is not read of it is said."""

from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch

from headway.exporter.capture.capture import canonical_of, capture
from headway.exporter.export import export
from headway.exporter.graph.anatomy import describe, read_anatomy
from headway.exporter.recipe.recipe import make_recipe
from headway.exporter.source.source import open_source

from tests.checkpoints.efficient_attention import Encoder, hashes, kernels, shortened
from tests.support.family_passes import tried
from tests.support.models import make_tokenizer
from tests.support.tool_forms import run

HEADS = 4
BLOCKS = {shortened: 2, kernels: 1, hashes: 1}
SEEN = {shortened: HEADS, kernels: 0, hashes: 0}
"""Heads that are read: Linformer's is a softmax over keys, of which there are other ones than tokens."""


@pytest.mark.parametrize(
    "attention",
    [pytest.param(shortened, marks=pytest.mark.slow), pytest.param(kernels, marks=pytest.mark.slow), hashes],
    ids=["Linformer", "Performer", "Reformer"],
)
def test_the_graph_answers_as_the_module(attention: Any, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    make_tokenizer(tmp_path)
    monkeypatch.setattr(
        f"{__name__}.made", lambda: (Encoder(attention, BLOCKS[attention]).eval(), tmp_path), raising=False
    )
    model = canonical_of(capture(open_source(f"{__name__}:made"))).model
    encoder, draw = Encoder(attention, BLOCKS[attention]).eval(), np.random.default_rng(0)
    for batch, length in ((1, 1), (3, 20), (2, 60)):
        mask = np.ones((batch, length), np.int64)
        mask[-1, max(1, length // 2) :] = 0
        feeds = {"input_ids": draw.integers(1, 299, mask.shape), "attention_mask": mask}
        with torch.no_grad():
            wanted = encoder(*(torch.from_numpy(feeds[n]) for n in feeds))["last_hidden_state"].numpy()
        assert np.abs(run(model, feeds) - wanted)[mask.astype(bool)].max() < 1e-5
    blocks = describe(read_anatomy(model))["blocks"]
    assert {b["heads"] for b in blocks} == {SEEN[attention]}
    if SEEN[attention]:
        assert tried(model, "heads") == "yes"
    assert [width for b in blocks for width in b["intermediate_size"]] == [64] * BLOCKS[attention]


@pytest.mark.parametrize("attention", [shortened, kernels, hashes], ids=["Linformer", "Performer", "Reformer"])
def test_a_bundle_answers_as_the_module(attention: Any, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    make_tokenizer(tmp_path)
    monkeypatch.setattr(
        f"{__name__}.made", lambda: (Encoder(attention, BLOCKS[attention]).eval(), tmp_path), raising=False
    )
    done = export(make_recipe("test", source=f"{__name__}:made"), tmp_path / "bundle")
    assert done.parity.ok
    assert {b["heads"] for b in done.manifest.anatomy["blocks"]} == {SEEN[attention]}
