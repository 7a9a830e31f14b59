"""nn_pruning: score modules beside each weight, by blocks, rows and columns, or two of four; and norms without a norm."""

import json
from itertools import combinations
from pathlib import Path
from typing import Any

import torch
import torch.nn.functional as F

from tests.support import checkpoints


class Scores(torch.nn.Module):
    """Scores of a mask."""

    def __init__(self, *shape: int):
        super().__init__()
        self.mask_scores = torch.nn.Parameter(torch.randn(shape))


class Masks(torch.nn.Module):
    """A place for the scores of a layer, of which some may be left out."""

    def __init__(self, modules: list[Scores | None]):
        super().__init__()
        self.context_modules = torch.nn.ModuleList(modules)  # type: ignore[arg-type]


class Ampere(torch.nn.Module):
    """Scores of the six patterns in which two of four weights are kept."""

    def __init__(self, out: int, into: int):
        super().__init__()
        self.context_module = Scores(into, out // 4, 6)
        rows = [[float(i in pair) for i in range(4)] for pair in combinations(range(4), 2)]
        self.register_buffer("ampere_pattern", torch.tensor(rows))


class BlockMasked(torch.nn.Module):
    """A linear layer masked by scores of 8 × 4 blocks, or of rows and columns."""

    def __init__(self, dense: torch.nn.Linear, settings: dict[str, Any], *, attention: bool):
        super().__init__()
        self.weight, self.bias = dense.weight, dense.bias
        out, into = dense.weight.shape
        self.settings, self.attention = settings, attention
        self.mask_module = Masks([Scores(out // 8, into // 4)] if attention else [Scores(out), Scores(into)])
        self.fine = settings["ampere_pruning_method"] == "annealing"
        if self.fine:
            self.ampere_module = Ampere(out, into)

    def mask(self) -> torch.Tensor:
        scores = [s.mask_scores for s in self.mask_module.context_modules]
        threshold = self.settings["final_threshold"]
        if self.attention:
            mask = torch.kron((scores[0].sigmoid() > threshold).float(), torch.ones(8, 4))
        else:
            mask = (torch.outer(scores[0], scores[1]).sigmoid() > threshold).float()
        if self.fine:
            best = self.ampere_module.context_module.mask_scores.argmax(-1)
            mask = mask * self.ampere_module.ampere_pattern[best].flatten(1).t()
        return mask

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        mask = self.mask()
        bias = self.bias * (mask.sum(1) > 0) if self.settings["bias_mask"] else self.bias
        return F.linear(x, self.weight * mask, bias)


class FixedNorm(torch.nn.Module):
    """A norm whose mean and variance are those that training accumulated."""

    def __init__(self, norm: torch.nn.LayerNorm):
        super().__init__()
        self.weight, self.bias, self.eps = norm.weight, norm.bias, norm.eps
        self.register_buffer("accumulator", torch.tensor([0.3, 1.7, 0.9]))

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        mean, variance = self.accumulator[0] / self.accumulator[2], self.accumulator[1] / self.accumulator[2]
        return (x - mean) / (variance + self.eps).sqrt() * self.weight + self.bias


def make_blocks(
    directory: Path,
    *,
    ampere: bool = False,
    norms: bool = False,
    threshold: float = 0.5,
    task: str = "question-answering",
) -> Any:
    """Write a model in training, with the settings that its tool saves beside it."""
    settings = {
        "attention_pruning_method": "sigmoied_threshold",
        "dense_pruning_method": "sigmoied_threshold:1d",
        "ampere_pruning_method": "annealing" if ampere else "disabled",
        "attention_output_with_dense": True,
        "attention_block_rows": 8,
        "attention_block_cols": 4,
        "dense_block_rows": 1,
        "dense_block_cols": 1,
        "final_threshold": threshold,
        "bias_mask": True,
        "layer_norm_patch": norms,
        "gelu_patch": norms,
    }
    activation = {"hidden_act": "relu"} if norms else {}
    model = checkpoints.base(directory, task=task, **activation)
    for name, module in list(model.named_modules()):
        if isinstance(module, torch.nn.Linear) and "encoder" in name:
            attention = name.endswith((".query", ".key", ".value"))
            model.set_submodule(name, BlockMasked(module, settings, attention=attention))
        elif isinstance(module, torch.nn.LayerNorm) and norms:
            model.set_submodule(name, FixedNorm(module))
    checkpoints.save(directory, model.state_dict(), **({"hidden_act": "gelu"} if norms else {}))
    (directory / "sparse_args.json").write_text(json.dumps(settings))
    return model


def make_compiled(directory: Path, task: str = "question-answering") -> Any:
    """Write such a model as its tool compiles it: masks folded, neurons of zeros, norms without a norm."""
    model = make_blocks(directory, norms=True, task=task)
    for name, module in list(model.named_modules()):
        if isinstance(module, BlockMasked):
            dense = torch.nn.Linear(*reversed(module.weight.shape))
            with torch.no_grad():
                mask = module.mask()
                if name.endswith("intermediate.dense"):
                    mask[:20] = 0
                dense.weight.copy_(module.weight * mask)
                dense.bias.copy_(module.bias * (mask.sum(1) > 0))
            model.set_submodule(name, dense)
        elif isinstance(module, FixedNorm):
            with torch.no_grad():
                sums = module.accumulator
                scale = (sums[1] / sums[2] + module.eps) ** -0.5
                module.bias -= sums[0] / sums[2] * scale * module.weight
                module.weight *= scale
            module.accumulator = torch.tensor([0.0, 1.0, 1.0])
            module.eps = 0.0
    state = {k: v for k, v in model.state_dict().items() if not k.endswith("accumulator")}
    checkpoints.save(directory, state, layer_norm_type="no_norm", hidden_act="relu")
    return model
