"""FLOP: two factors of each weight with hard-concrete gates on the rank between, trained with a price on open gates."""

import math
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import torch

from tests.support import checkpoints


class Gates(torch.nn.Module):
    """Hard-concrete gates as they are at evaluation: the smallest are 0, as many as are expected to be."""

    def __init__(self, log_alpha: torch.Tensor):
        super().__init__()
        self.log_alpha = torch.nn.Parameter(log_alpha)

    def forward(self) -> torch.Tensor:
        expected_open = torch.sigmoid(self.log_alpha + math.log(1.1 / 0.1)).sum()
        closed = round(len(self.log_alpha) - float(expected_open))
        soft = torch.sigmoid(0.8 * self.log_alpha)
        least = soft.argsort()[:closed]
        return soft.index_fill(0, least, 0.0)


class GatedFactors(torch.nn.Module):
    """`y = x P diag(gates) Q + b`."""

    def __init__(self, dense: torch.nn.Linear, log_alpha: torch.Tensor):
        super().__init__()
        rank = len(log_alpha)
        # A gain of about 1 at any width: where activations grow from layer to layer, rounding would decide what a model answers.
        self.weight = torch.nn.Parameter(torch.randn(dense.in_features, rank) * 0.6 / dense.in_features**0.5)
        self.weight_proj = torch.nn.Parameter(torch.randn(rank, dense.out_features) * 2.4 / rank**0.5)
        self.bias = dense.bias
        self.mask = Gates(log_alpha)

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        return x @ self.weight @ (self.mask()[:, None] * self.weight_proj) + self.bias


class GatedInputs(torch.nn.Module):
    """`y = (gates x) W + b`, its weight `[in, out]`."""

    def __init__(self, dense: torch.nn.Linear, log_alpha: torch.Tensor):
        super().__init__()
        self.weight = torch.nn.Parameter(dense.weight.detach().t().clone())
        self.bias = dense.bias
        self.mask = Gates(log_alpha)

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        return (x * self.mask()) @ self.weight + self.bias


def log_alphas(open_ones: int, rank: int) -> torch.Tensor:
    """Return gates of which `open_ones` are open, in no order."""
    order = torch.randperm(rank, generator=torch.Generator().manual_seed(rank))
    return torch.where(order < open_ones, 3.0 + order / 10, -9.0)


def make_gated(directory: Path, open_ranks: Sequence[int], rank: int = 24, *, inputs: bool = False) -> Any:
    """Write a classifier whose encoder has factors of `rank`, of which `open_ranks`, in turn, are open."""
    model = checkpoints.base(directory, task="text-classification")
    layers = [(n, m) for n, m in model.named_modules() if isinstance(m, torch.nn.Linear) and "encoder" in n]
    for i, (name, dense) in enumerate(layers):
        if inputs:
            gates = log_alphas(dense.in_features - 5, dense.in_features)
            model.set_submodule(name, GatedInputs(dense, gates))
        else:
            model.set_submodule(name, GatedFactors(dense, log_alphas(open_ranks[i % len(open_ranks)], rank)))
    checkpoints.save(directory, model.state_dict())
    return model


class Stacked(torch.nn.Module):
    """Two layers in the place of one, under the names that a tool gives them."""

    def __init__(self, first: torch.nn.Module, second: torch.nn.Module, names: Sequence[str]):
        super().__init__()
        self.names = names
        for name, layer in zip(names, (first, second), strict=True):
            self.add_module(name, layer)

    @property
    def weight(self) -> torch.Tensor:
        return self.get_submodule(self.names[1]).weight

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        for name in self.names:
            x = self.get_submodule(name)(x)
        return x


def make_stacked(
    directory: Path,
    ranks: Sequence[int],
    names: Sequence[str] = ("0", "1"),
    *,
    inner_bias: bool = False,
    pooler: int = 0,
    embedding: int = 0,
) -> Any:
    """Write a classifier whose encoder has two linear layers for each of the dense one's, of `ranks` in turn.

    `inner_bias`: the first has a bias, too. `pooler` and `embedding` are ranks of these parts, where they are factored.
    """
    model = checkpoints.base(directory, task="text-classification")
    layers = [(n, m) for n, m in model.named_modules() if isinstance(m, torch.nn.Linear) and "encoder" in n]
    for i, (name, dense) in enumerate(layers):
        rank = ranks[i % len(ranks)]
        first = torch.nn.Linear(dense.in_features, rank, bias=inner_bias)
        model.set_submodule(name, Stacked(first, torch.nn.Linear(rank, dense.out_features), names))
    if pooler:
        pair = (torch.nn.Linear(32, pooler, bias=False), torch.nn.Linear(pooler, 32))
        model.set_submodule("bert.pooler.dense", Stacked(*pair, names))
    if embedding:
        dense = model.get_input_embeddings()
        table = torch.nn.Embedding(dense.num_embeddings, embedding)
        model.set_submodule(
            "bert.embeddings.word_embeddings", Stacked(table, torch.nn.Linear(embedding, 32, bias=False), names)
        )
    checkpoints.save(directory, model.state_dict())
    return model
