"""Attention that is no softmax over all tokens goes through as ordinary operators, and what is not read of it is said."""

from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from torch import nn
from torch.nn import functional as F

from headway.exporter.capture.capture import canonical_of, capture
from headway.exporter.export import export
from headway.exporter.graph.anatomy import describe, read_anatomy
from headway.exporter.recipe.recipe import make_recipe
from headway.exporter.source.source import open_source

from tests.support.family_passes import tried
from tests.support.models import make_tokenizer
from tests.support.tool_forms import run

HEADS, SIZE, WIDTH = 4, 8, 32
BUCKETS = 4
LONGEST = 64


def shortened(
    q: torch.Tensor, k: torch.Tensor, v: torch.Tensor, mask: torch.Tensor, draws: torch.Tensor
) -> torch.Tensor:
    """Return Linformer's attention: keys and values of all tokens become as many as `draws` has rows, and each query sees those."""
    rows = draws.repeat(1, LONGEST // SIZE)[:, : k.shape[2]] / 4
    keys, values = (rows @ (x * mask[:, None, :, None]) for x in (k, v))
    return (q @ keys.transpose(-1, -2) / SIZE**0.5).softmax(-1) @ values


def kernels(q: torch.Tensor, k: torch.Tensor, v: torch.Tensor, mask: torch.Tensor, draws: torch.Tensor) -> torch.Tensor:
    """Return Performer's attention: positive random features of queries and keys, summed over tokens once."""
    features = [
        torch.exp(x @ draws.t() - (x**2).sum(-1, keepdim=True) / 2) + 1e-4 for x in (q / SIZE**0.25, k / SIZE**0.25)
    ]
    queries, keys = features[0], features[1] * mask[:, None, :, None]
    total = queries @ keys.sum(2, keepdim=True).transpose(-1, -2)
    return queries @ (keys.transpose(-1, -2) @ v) / total


def hashes(q: torch.Tensor, k: torch.Tensor, v: torch.Tensor, mask: torch.Tensor, draws: torch.Tensor) -> torch.Tensor:
    """Return Reformer's attention: tokens see those of the bucket that their hash falls into; queries are keys."""
    turned = q @ draws[: BUCKETS // 2].t()
    buckets = torch.cat([turned, -turned], -1).argmax(-1)
    same = (buckets[..., :, None] == buckets[..., None, :]) & mask[:, None, None, :].bool()
    scores = (q @ F.normalize(q, dim=-1).transpose(-1, -2) / SIZE**0.5).masked_fill(~same, -1e9)
    return scores.softmax(-1) @ v


BLOCKS = {shortened: 2, kernels: 1, hashes: 1}
SEEN = {shortened: HEADS, kernels: 0, hashes: 0}
"""Heads that are read: Linformer's is a softmax over keys, of which there are other ones than tokens."""


class Encoder(nn.Module):
    """Blocks with one of these attentions."""

    def __init__(self, attention: Callable[..., torch.Tensor]):
        super().__init__()
        torch.manual_seed(0)
        self.attention = attention
        self.embedding, self.positions = nn.Embedding(300, WIDTH), nn.Embedding(LONGEST, WIDTH)
        self.blocks = nn.ModuleList(
            nn.ModuleDict(
                {n: nn.Linear(WIDTH, WIDTH) for n in ("q", "k", "v", "o")}
                | {"up": nn.Linear(WIDTH, 64), "down": nn.Linear(64, WIDTH)}
                | {n: nn.LayerNorm(WIDTH) for n in ("first", "second")}
            )
            for _ in range(BLOCKS[attention])
        )
        self.register_buffer("draws", torch.randn(16, SIZE))

    def forward(self, input_ids: torch.Tensor, attention_mask: torch.Tensor) -> dict[str, torch.Tensor]:
        x = self.embedding(input_ids) + self.positions(torch.arange(input_ids.shape[1]))
        for block in self.blocks:
            q, k, v = (block[n](x).unflatten(-1, (HEADS, SIZE)).transpose(1, 2) for n in "qkv")
            mixed = self.attention(q, k, v, attention_mask.to(x.dtype), self.draws)
            x = block["first"](x + block["o"](mixed.transpose(1, 2).flatten(2)))
            x = block["second"](x + block["down"](F.gelu(block["up"](x))))
        return {"last_hidden_state": x}


@pytest.mark.parametrize(
    "attention",
    [pytest.param(shortened, marks=pytest.mark.slow), pytest.param(kernels, marks=pytest.mark.slow), hashes],
    ids=["Linformer", "Performer", "Reformer"],
)
def test_the_graph_answers_as_the_module(attention: Any, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    make_tokenizer(tmp_path)
    monkeypatch.setattr(f"{__name__}.made", lambda: (Encoder(attention).eval(), tmp_path), raising=False)
    model = canonical_of(capture(open_source(f"{__name__}:made"))).model
    encoder, draw = Encoder(attention).eval(), np.random.default_rng(0)
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
    monkeypatch.setattr(f"{__name__}.made", lambda: (Encoder(attention).eval(), tmp_path), raising=False)
    done = export(make_recipe("test", source=f"{__name__}:made"), tmp_path / "bundle")
    assert done.parity.ok
    assert {b["heads"] for b in done.manifest.anatomy["blocks"]} == {SEEN[attention]}
