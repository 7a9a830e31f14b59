"""Build pooling and normalization of sentence-transformers directories as torch modules, captured with the encoder."""

from pathlib import Path
from typing import Any

import torch

from ...errors import SourceError

_MODES = ("cls", "mean", "max", "mean_sqrt_len_tokens", "weightedmean", "lasttoken")


class Pooling(torch.nn.Module):
    """Token states `[batch, sequence, hidden]` and mask → `[batch, hidden * modes]`."""

    def __init__(self, modes: list[str]):
        super().__init__()
        self.modes = modes

    def forward(self, states: torch.Tensor, mask: torch.Tensor) -> torch.Tensor:
        """Return the pooled states, the modes side by side."""
        weights = mask.unsqueeze(-1).to(states.dtype)
        return torch.cat([self._pool(mode, states, weights, mask) for mode in self.modes], dim=-1)

    def _pool(self, mode: str, states: torch.Tensor, weights: torch.Tensor, mask: torch.Tensor) -> torch.Tensor:
        if mode == "cls":  # the first token that is not padding: with left padding it is not at index 0
            first = mask.argmax(dim=1)
            return states[torch.arange(states.shape[0]), first]
        if mode == "lasttoken":
            steps = torch.arange(mask.shape[1])
            last = (mask * steps).argmax(dim=1)
            return states[torch.arange(states.shape[0]), last]
        if mode == "max":
            return states.masked_fill(weights == 0, -1e9).amax(dim=1)
        if mode == "weightedmean":
            weights = weights * torch.arange(1, states.shape[1] + 1, dtype=states.dtype).view(1, -1, 1)
        total = (states * weights).sum(dim=1)
        count = weights.sum(dim=1).clamp(min=1e-9)
        return total / (count.sqrt() if mode == "mean_sqrt_len_tokens" else count)


class Normalize(torch.nn.Module):
    """Scale each row to Euclidean length 1."""

    def forward(self, vectors: torch.Tensor) -> torch.Tensor:
        """Return `[batch, hidden]` normalized."""
        return torch.nn.functional.normalize(vectors, p=2.0, dim=1)


def pooling_modes(config: dict[str, Any]) -> list[str]:
    """Read the modes in both forms: `pooling_mode_mean_tokens: true` and `pooling_mode: "mean"`. SourceError names unknown ones."""
    new = config.get("pooling_mode")
    if new:
        modes = [new] if isinstance(new, str) else list(new)
    else:
        keys = ("cls_token", "max_tokens", "mean_tokens", "mean_sqrt_len_tokens", "weightedmean_tokens", "lasttoken")
        modes = [k for k in keys if config.get(f"pooling_mode_{k}")]
        modes = [m if m == "mean_sqrt_len_tokens" else m.removesuffix("_tokens").removesuffix("_token") for m in modes]
    unknown = [m for m in modes if m not in _MODES]
    if unknown or not modes:
        raise SourceError(f"pooling {unknown or config} is not known; known modes: {', '.join(_MODES)}")
    return modes


def sentence_head(modules: tuple[dict[str, Any], ...]) -> torch.nn.ModuleList:
    """Return the modules after the encoder, in order, with their weights. SourceError names an unknown one."""
    steps: list[torch.nn.Module] = []
    for module in modules:
        if module["kind"] == "Pooling":
            steps.append(Pooling(pooling_modes(module)))
        elif module["kind"] == "Normalize":
            steps.append(Normalize())
        elif module["kind"] == "Dense":
            steps.append(_dense(module))
        elif module["kind"] != "Dropout":
            raise SourceError(f"{module['folder']}: sentence-transformers module {module['kind']} is not supported")
    return torch.nn.ModuleList(steps)


def _dense(module: dict[str, Any]) -> torch.nn.Module:
    from safetensors.torch import load_file

    path = Path(module["folder"]) / "model.safetensors"
    if not path.is_file():
        raise SourceError(f"{path}: no such file; the Dense module needs its weights as safetensors")
    linear = torch.nn.Linear(module["in_features"], module["out_features"], bias=bool(module.get("bias", True)))
    linear.load_state_dict({k.removeprefix("linear."): v for k, v in load_file(path).items()})
    name = str(module.get("activation_function", "torch.nn.modules.activation.Tanh")).rsplit(".", 1)[-1]
    activations = {"Tanh": torch.nn.Tanh, "Identity": torch.nn.Identity, "GELU": torch.nn.GELU, "ReLU": torch.nn.ReLU}
    if name not in activations:
        raise SourceError(f"{module['folder']}: activation {name} is not known; known: {', '.join(activations)}")
    return torch.nn.Sequential(linear, activations[name]())
