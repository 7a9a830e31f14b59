"""Efficient attentions of a factory are exported as ordinary operators; what is not read of them is said."""

from pathlib import Path

import pytest
import torch
from torch import nn

import headway

from tests.support.models import make_tokenizer

HEADS, WIDTH = 4, 32


class Layer(nn.Module):
    """A layer whose attention is Linformer's (keys and values of 8 mixed tokens) or Performer's (features without a softmax)."""

    def __init__(self, kind: str):
        super().__init__()
        self.kind = kind
        self.q, self.k, self.v, self.o = (nn.Linear(WIDTH, WIDTH) for _ in range(4))
        self.mix = nn.Parameter(torch.randn(8, 64) * 0.2)
        self.register_buffer("features", torch.randn(8, 16))
        self.up, self.down = nn.Linear(WIDTH, 64), nn.Linear(64, WIDTH)
        self.first, self.second = nn.LayerNorm(WIDTH), nn.LayerNorm(WIDTH)

    def extra_repr(self) -> str:
        return self.kind

    def forward(self, x: torch.Tensor, mask: torch.Tensor) -> torch.Tensor:
        batch, time, _ = x.shape
        q, k, v = (p(x).reshape(batch, time, HEADS, -1).transpose(1, 2) for p in (self.q, self.k, self.v))
        if self.kind == "linformer":
            k, v = (self.mix[:, :time] @ (t * mask) for t in (k, v))
            mixed = torch.softmax(q @ k.transpose(-1, -2) / (WIDTH / HEADS) ** 0.5, -1) @ v
        else:
            q, k = torch.relu(q @ self.features) + 1e-3, (torch.relu(k @ self.features) + 1e-3) * mask
            mixed = q @ (k.transpose(-1, -2) @ v) / (q @ k.sum(2)[..., None])
        x = self.first(x + self.o(mixed.transpose(1, 2).reshape(batch, time, WIDTH)))
        return self.second(x + self.down(nn.functional.gelu(self.up(x))))


class Encoder(nn.Module):
    def __init__(self, kind: str):
        super().__init__()
        torch.manual_seed(0)
        self.words = nn.Embedding(300, WIDTH)
        self.layers = nn.ModuleList(Layer(kind) for _ in range(2))

    def forward(self, input_ids: torch.Tensor, attention_mask: torch.Tensor) -> dict[str, torch.Tensor]:
        x = self.words(input_ids)
        for layer in self.layers:
            x = layer(x, attention_mask[:, None, :, None].float())
        return {"last_hidden_state": x}


def linformer() -> nn.Module:
    return Encoder("linformer")


def performer() -> nn.Module:
    return Encoder("performer")


@pytest.mark.parametrize("kind", ["linformer", "performer"])
def test_an_export_agrees_and_the_anatomy_is_right(kind: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    make_tokenizer(tmp_path)
    monkeypatch.setattr(Encoder, "name_or_path", str(tmp_path), raising=False)
    inspection = headway.inspect(f"{__name__}:{kind}")
    blocks = [(block["heads"], block["intermediate_size"]) for block in inspection["blocks"]]
    if kind == "linformer":
        assert blocks == [(HEADS, [64]), (HEADS, [64])]
        assert inspection["form"] == []
    else:
        assert blocks == [(0, [64, 64])]
        assert "heads are not read" in inspection["form"][0]
    assert headway.export(f"{__name__}:{kind}", tmp_path / "bundle").parity.ok
