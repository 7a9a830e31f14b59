"""Structured pruning for question answering: gates on heads and neurons are trained with the model, and most are closed."""

from pathlib import Path
from typing import Any

import torch

from tests.support import checkpoints


class Gated(torch.nn.Module):
    """A linear layer that reads each head or neuron through its gate."""

    def __init__(self, dense: torch.nn.Linear, gate: torch.nn.Module, each: int):
        super().__init__()
        self.dense, self.gate, self.each = dense, gate, each

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        return self.dense(x * self.gate().repeat_interleave(self.each))


class Plain(torch.nn.Module):
    """Gates that are what they are."""

    def __init__(self, count: int, closed: int):
        super().__init__()
        self.gate = torch.nn.Parameter(torch.where(torch.arange(count) < closed, 0.0, torch.rand(count) + 0.5))

    def forward(self) -> torch.Tensor:
        return self.gate


class Concrete(torch.nn.Module):
    """Hard-concrete gates at evaluation."""

    def __init__(self, count: int, closed: int):
        super().__init__()
        self.qz_loga = torch.nn.Parameter(torch.where(torch.arange(count) < closed, -9.0, torch.randn(count)))

    def forward(self) -> torch.Tensor:
        return (torch.sigmoid(self.qz_loga) * 1.2 - 0.1).clamp(0, 1)


def make_gates(directory: Path, *, concrete: bool = False, task: str = "question-answering") -> Any:
    """Write a model with one of four heads and three of eight neurons closed in each layer; the gates lie beside the weights."""
    model = checkpoints.base(directory, task=task)
    count, width = model.config.num_attention_heads, model.config.intermediate_size
    kind = Concrete if concrete else Plain
    end = "qz_loga" if concrete else "gate"
    state = dict(model.state_dict())
    for i, layer in enumerate(model.bert.encoder.layer):
        heads, neurons = kind(count, 1), kind(width, width * 3 // 8)
        state[f"bert.encoder.layer.{i}.attention.self.{end}"] = getattr(heads, end)
        state[f"bert.encoder.layer.{i}.intermediate.{end}"] = getattr(neurons, end)
        layer.attention.output.dense = Gated(layer.attention.output.dense, heads, model.config.hidden_size // count)
        layer.output.dense = Gated(layer.output.dense, neurons, 1)
    checkpoints.save(directory, state)
    return model
