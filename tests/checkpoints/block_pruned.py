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
    """A linear layer masked by scores of its blocks, or of its rows and columns, one of which may be left out."""

    def __init__(
        self, dense: torch.nn.Linear, settings: dict[str, Any], scores: list[Scores | None], block: tuple[int, int]
    ):
        super().__init__()
        self.weight, self.bias = dense.weight, dense.bias
        self.settings, self.block = settings, block
        self.mask_module = Masks(scores)
        self.fine = settings["ampere_pruning_method"] == "annealing"
        if self.fine:
            self.ampere_module = Ampere(*dense.weight.shape)

    def mask(self) -> torch.Tensor:
        scores = [None if s is None else s.mask_scores for s in self.mask_module.context_modules]
        threshold = self.settings["final_threshold"]
        if len(scores) == 1:
            mask = torch.kron((scores[0].sigmoid() > threshold).float(), torch.ones(self.block))
        else:
            rows, columns = (torch.ones(n) if s is None else s for n, s in zip(self.weight.shape, scores, strict=True))
            mask = (torch.outer(rows, columns).sigmoid() > threshold).float()
        if self.fine:
            best = self.ampere_module.context_module.mask_scores.argmax(-1)
            mask = mask * self.ampere_module.ampere_pattern[best].flatten(1).t()
        return mask

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        mask = self.mask()
        bias = self.bias * (mask.sum(1) > 0) if self.settings["bias_mask"] else self.bias
        return F.linear(x, self.weight * mask, bias)


class _Scoring:
    """Scores of a model's layers, of which some are shared as the tool shares them."""

    def __init__(self, settings: dict[str, Any]):
        self.joint = settings["attention_pruning_method"].endswith(":joint")
        self.alternate = settings["dense_pruning_method"].endswith(":1d_alt")
        self.across = not settings["attention_output_with_dense"]
        self.block = settings["attention_block_rows"], settings["attention_block_cols"]
        self.shared: dict[str, Scores] = {}

    def of(self, name: str, shape: tuple[int, int]) -> tuple[list[Scores | None], tuple[int, int]]:
        """Return the scores of a layer, and the rows and columns of a block."""
        layer, part = name.partition("encoder.layer.")[2].split(".", 1)
        block = self.block[::-1] if part == "attention.output.dense" else self.block
        if part.startswith("attention.self") or (part == "attention.output.dense" and self.across):
            key = f"{layer} attention" if self.joint else name
            return [self._one(key, shape[0] // block[0], shape[1] // block[1])], block
        if not self.alternate:
            return [Scores(shape[0]), Scores(shape[1])], (1, 1)
        if part == "intermediate.dense":
            return [self._one(f"{layer} neurons", shape[0]), None], (1, 1)
        return [None, self._one(f"{layer} neurons" if part == "output.dense" else name, shape[1])], (1, 1)

    def _one(self, key: str, *shape: int) -> Scores:
        return self.shared.setdefault(key, Scores(*shape))


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
    **options: Any,
) -> Any:
    """Write a model in training, with the settings that its tool saves beside it; `options` are some of these."""
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
        **options,
    }
    scoring = _Scoring(settings)
    activation = {"hidden_act": "relu"} if norms else {}
    model = checkpoints.base(directory, task=task, **activation)
    for name, module in list(model.named_modules()):
        if isinstance(module, torch.nn.Linear) and "encoder" in name:
            scores, block = scoring.of(name, (module.out_features, module.in_features))
            model.set_submodule(name, BlockMasked(module, settings, scores, block))
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
