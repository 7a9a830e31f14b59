"""Encoders whose attention is no softmax over all tokens: Linformer's, Performer's and Reformer's, in any size."""

from collections.abc import Callable

import torch
from torch import nn
from torch.nn import functional as F

BUCKETS, DRAWS = 4, 16
LONGEST = 64
"""Tokens of the longest text: there is a position for each."""


def shortened(
    q: torch.Tensor, k: torch.Tensor, v: torch.Tensor, mask: torch.Tensor, draws: torch.Tensor
) -> torch.Tensor:
    """Return Linformer's attention: keys and values of all tokens become as many as `draws` has rows, and each query sees those."""
    size = q.shape[-1]
    rows = draws.repeat(1, -(-LONGEST // size))[:, : k.shape[2]] / 4
    keys, values = (rows @ (x * mask[:, None, :, None]) for x in (k, v))
    return (q @ keys.transpose(-1, -2) / size**0.5).softmax(-1) @ values


def kernels(q: torch.Tensor, k: torch.Tensor, v: torch.Tensor, mask: torch.Tensor, draws: torch.Tensor) -> torch.Tensor:
    """Return Performer's attention: positive random features of queries and keys, summed over tokens once."""
    scale = q.shape[-1] ** 0.25
    features = [torch.exp(x @ draws.t() - (x**2).sum(-1, keepdim=True) / 2) + 1e-4 for x in (q / scale, k / scale)]
    queries, keys = features[0], features[1] * mask[:, None, :, None]
    total = queries @ keys.sum(2, keepdim=True).transpose(-1, -2)
    return queries @ (keys.transpose(-1, -2) @ v) / total


def hashes(q: torch.Tensor, k: torch.Tensor, v: torch.Tensor, mask: torch.Tensor, draws: torch.Tensor) -> torch.Tensor:
    """Return Reformer's attention: tokens see those of the bucket that their hash falls into; queries are keys."""
    turned = q @ draws[: BUCKETS // 2].t()
    buckets = torch.cat([turned, -turned], -1).argmax(-1)
    same = (buckets[..., :, None] == buckets[..., None, :]) & mask[:, None, None, :].bool()
    scores = (q @ F.normalize(q, dim=-1).transpose(-1, -2) / q.shape[-1] ** 0.5).masked_fill(~same, -1e9)
    return scores.softmax(-1) @ v


class Encoder(nn.Module):
    """Blocks with one of these attentions."""

    def __init__(
        self, attention: Callable[..., torch.Tensor], blocks: int, *, heads: int = 4, size: int = 8, inner: int = 64
    ):
        super().__init__()
        torch.manual_seed(0)
        self.attention, self.shape, width = attention, (heads, size), heads * size
        self.embedding, self.positions = nn.Embedding(300, width), nn.Embedding(LONGEST, width)
        self.blocks = nn.ModuleList(
            nn.ModuleDict(
                {n: nn.Linear(width, width) for n in ("q", "k", "v", "o")}
                | {"up": nn.Linear(width, inner), "down": nn.Linear(inner, width)}
                | {n: nn.LayerNorm(width) for n in ("first", "second")}
            )
            for _ in range(blocks)
        )
        self.register_buffer("draws", torch.randn(DRAWS, size))

    def forward(self, input_ids: torch.Tensor, attention_mask: torch.Tensor) -> dict[str, torch.Tensor]:
        x = self.embedding(input_ids) + self.positions(torch.arange(input_ids.shape[1]))
        for block in self.blocks:
            q, k, v = (block[n](x).unflatten(-1, self.shape).transpose(1, 2) for n in "qkv")
            mixed = self.attention(q, k, v, attention_mask.to(x.dtype), self.draws)
            x = block["first"](x + block["o"](mixed.transpose(1, 2).flatten(2)))
            x = block["second"](x + block["down"](F.gelu(block["up"](x))))
        return {"last_hidden_state": x}
