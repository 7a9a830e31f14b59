"""Movement pruning: scores beside each weight are trained with it, and say by their order or size which weights count."""

from pathlib import Path
from typing import Any

import torch
import torch.nn.functional as F

from tests.support import checkpoints


class Binary(torch.autograd.Function):
    """The mask of a score matrix; gradients pass through it."""

    @staticmethod
    def forward(_context: Any, scores: torch.Tensor, method: str, threshold: float) -> torch.Tensor:  # type: ignore[override]
        if method == "topK":
            last = scores.flatten().sort(descending=True).values[int(threshold * scores.numel()) - 1]
            return (scores >= last).float()
        kept = torch.sigmoid(scores) if method.startswith("sig") else scores
        return (kept > threshold).float()

    @staticmethod
    def backward(_context: Any, gradient: torch.Tensor) -> Any:  # type: ignore[override]
        return gradient, None, None


class ScoredLinear(torch.nn.Module):
    """A linear layer whose weight is masked by trained scores, whole or by blocks of it."""

    def __init__(self, dense: torch.nn.Linear, method: str, threshold: float):
        super().__init__()
        self.weight, self.bias = dense.weight, dense.bias
        self.mask_scores = torch.nn.Parameter(torch.randn_like(dense.weight))
        self.method, self.threshold = method, threshold

    def mask(self) -> torch.Tensor:
        if self.method == "l0":
            return (torch.sigmoid(self.mask_scores) * 1.2 - 0.1).clamp(0, 1)
        return Binary.apply(self.mask_scores, self.method, self.threshold)

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        return F.linear(x, self.weight * self.mask(), self.bias)


def make_moved(directory: Path, method: str, threshold: float) -> Any:
    """Write a classifier with scores after three steps of training, as `masked_bert`, without the threshold."""
    model = checkpoints.base(directory, task="text-classification")
    for name, module in list(model.named_modules()):
        if isinstance(module, torch.nn.Linear) and ("encoder" in name or "pooler" in name):
            model.set_submodule(name, ScoredLinear(module, method, threshold))
    optimizer = torch.optim.SGD(model.parameters(), lr=0.1)
    ids = torch.arange(20).reshape(2, 10) + 5
    for _ in range(3):
        optimizer.zero_grad()
        model(input_ids=ids, labels=torch.tensor([0, 1])).loss.backward()
        optimizer.step()
    checkpoints.save(
        directory,
        model.state_dict(),
        model_type="masked_bert",
        architectures=["MaskedBertForSequenceClassification"],
        pruning_method=method,
        mask_init="constant",
        mask_scale=0.0,
    )
    return model
