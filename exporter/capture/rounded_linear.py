"""Linear layers whose inputs are rounded with a step that a checkpoint holds. Imports torch."""

from typing import Any

import torch
from torch import nn


class FixedRounding(nn.Module):
    """Round to multiples of `step`, from -127 to 127. The step is a number, so that no state dict has or lacks it."""

    def __init__(self, step: float):
        super().__init__()
        self.step = step

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        """Return float32 `x` rounded."""
        return torch.fake_quantize_per_tensor_affine(x, self.step, 0, -127, 127)

    def extra_repr(self) -> str:
        """Return the step, by which two modules differ."""
        return repr(self.step)


class RoundedLinear(nn.Linear):
    """The linear layer given, with its parameters, on rounded inputs."""

    def __init__(self, linear: Any, step: float):
        nn.Module.__init__(self)
        self.in_features, self.out_features = linear.in_features, linear.out_features
        self.weight, self.bias = linear.weight, linear.bias
        self.rounding = FixedRounding(step)

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        """Return `[..., out]` float32 for `x [..., in]` float32."""
        return super().forward(self.rounding(x))
