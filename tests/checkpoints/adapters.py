"""Adapters as peft saves them, made by modules that add their own term to a layer's answer and never touch its weight."""

import json
import math
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import torch
from safetensors.torch import save_file
from torch import nn

Tensors = dict[str, torch.Tensor]


class LoraLinear(nn.Module):
    """A linear layer and a product of two factors beside it; with magnitudes, the sum is rescaled for each output (DoRA)."""

    def __init__(self, base: nn.Linear, rank: int, alpha: float, *, rslora: bool = False, dora: bool = False):
        super().__init__()
        self.base, self.scale = base, alpha / (math.sqrt(rank) if rslora else rank)
        self.a = nn.Parameter(torch.randn(rank, base.in_features) * 0.2)
        self.b = nn.Parameter(torch.randn(base.out_features, rank) * 0.2)
        self.magnitude = nn.Parameter(torch.rand(base.out_features) + 0.5) if dora else None

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        added = nn.functional.linear(nn.functional.linear(x, self.a), self.b) * self.scale
        plain = nn.functional.linear(x, self.base.weight)
        if self.magnitude is None:
            return plain + added + self.base.bias
        length = (self.base.weight + self.scale * self.b @ self.a).norm(dim=1)
        return (plain + added) * (self.magnitude / length) + self.base.bias

    def saved(self, path: str) -> Tensors:
        tensors = {f"{path}.lora_A.weight": self.a, f"{path}.lora_B.weight": self.b}
        return tensors | ({f"{path}.lora_magnitude_vector": self.magnitude} if self.magnitude is not None else {})


class LoraEmbedding(nn.Module):
    """An embedding and a product of two factors beside it."""

    def __init__(self, base: nn.Embedding, rank: int, alpha: float):
        super().__init__()
        self.base, self.scale = base, alpha / rank
        self.a = nn.Parameter(torch.randn(rank, base.num_embeddings) * 0.2)
        self.b = nn.Parameter(torch.randn(base.embedding_dim, rank) * 0.2)

    def forward(self, ids: torch.Tensor) -> torch.Tensor:
        return self.base(ids) + nn.functional.embedding(ids, self.a.T) @ self.b.T * self.scale

    def saved(self, path: str) -> Tensors:
        return {f"{path}.lora_embedding_A": self.a, f"{path}.lora_embedding_B": self.b}


class Scaled(nn.Module):
    """A linear layer whose inputs or outputs are scaled by learned numbers (IA3)."""

    def __init__(self, base: nn.Linear, *, inputs: bool):
        super().__init__()
        self.base, self.inputs = base, inputs
        self.scales = nn.Parameter(torch.rand(base.in_features if inputs else base.out_features) + 0.5)

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        return self.base(x * self.scales) if self.inputs else self.base(x) * self.scales

    def saved(self, path: str) -> Tensors:
        return {f"{path}.ia3_l": self.scales[None] if self.inputs else self.scales[:, None]}


def adapt(model: nn.Module, adapted: Mapping[str, nn.Module]) -> Tensors:
    """Put adapted layers in place by their paths; return their tensors by the names that peft saves."""
    saved: Tensors = {}
    for path, module in adapted.items():
        parent, _, name = path.rpartition(".")
        setattr(model.get_submodule(parent), name, module)
        saved |= module.saved(path)  # type: ignore[operator]
    return saved


def save_adapter(directory: Path, tensors: Tensors, base: Path, **settings: Any) -> Path:
    """Write an adapter's directory."""
    directory.mkdir(exist_ok=True)
    common = {"peft_type": "LORA", "r": 4, "lora_alpha": 8, "bias": "none", "base_model_name_or_path": str(base)}
    (directory / "adapter_config.json").write_text(json.dumps(common | settings))
    named = {f"base_model.model.{k}": v.detach().clone().contiguous() for k, v in tensors.items()}
    save_file(named, directory / "adapter_model.safetensors")
    return directory
