"""Trace models that were trained quantized: `torch.ao`'s FakeQuantize observes or not at run time, which no tracer can follow.

While a model is traced, each FakeQuantize is replaced by a module that only rounds, with its learned scale and zero point.
"""

from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

from ...errors import SourceError


def check_learned(root: Any) -> None:
    """Raise SourceError naming the first FakeQuantize that never observed a value: its scale is a placeholder."""
    import torch

    for path, module in root.named_modules():
        if not rounds(module):
            continue
        low = torch.as_tensor(getattr(module.activation_post_process, "min_val", float("inf")))
        unobserved = low.numel() == 0 or not bool(torch.isfinite(low).all())
        scale: Any = module.scale
        if unobserved and bool((scale == 1).all()):
            raise SourceError(
                f"{path}: this FakeQuantize has no scale yet; run the model on some text before exporting it"
            )


def hold_scales(root: Any) -> None:
    """Switch observers off, in place: a module that is run to be compared keeps the scales that it came with."""
    from torch.ao.quantization import disable_observer

    root.apply(disable_observer)


def has_rounding(root: Any) -> bool:
    """Return True for a module with a FakeQuantize that rounds."""
    return any(rounds(module) for module in root.modules())


def rounds(module: Any) -> bool:
    """Return True for a FakeQuantize that is switched on."""
    from torch.ao.quantization import FakeQuantizeBase

    return isinstance(module, FakeQuantizeBase) and bool(module.fake_quant_enabled[0])


@contextmanager
def frozen(root: Any) -> Iterator[None]:
    """Replace every FakeQuantize and FixedRounding of `root` inside the block by a module that only rounds."""
    import torch
    from torch.ao.quantization import FakeQuantizeBase

    from .rounded_linear import FixedRounding

    class Rounding(torch.nn.Module):
        """QuantizeLinear and DequantizeLinear to 8 bits, per tensor or along an axis."""

        def __init__(self, scale: Any, zero: Any, axis: int):
            super().__init__()
            self.register_buffer("scale", scale)
            self.register_buffer("zero_point", zero)
            self.axis = axis

        def forward(self, x: Any) -> Any:
            """Return `x` rounded."""
            steps: Any = [self.scale, self.zero_point]
            attributes: Any = {"axis": self.axis}
            shape, dtype = x.shape, steps[1].dtype
            q = torch.onnx.ops.symbolic("QuantizeLinear", [x, *steps], attributes, dtype=dtype, shape=shape, version=23)
            return torch.onnx.ops.symbolic(
                "DequantizeLinear", [q, *steps], attributes, dtype=torch.float32, shape=shape, version=23
            )

    replaced = []
    for path, module in list(root.named_modules()):
        if isinstance(module, FixedRounding):
            stand_in: Any = Rounding(torch.tensor(module.step), torch.tensor(0, dtype=torch.int8), 1)
        elif not isinstance(module, FakeQuantizeBase):
            continue
        elif not bool(module.fake_quant_enabled[0]):
            stand_in = torch.nn.Identity()
        else:
            stand_in = Rounding(*_learned(module))
        parent, _, name = path.rpartition(".")
        replaced.append((root.get_submodule(parent), name, module))
        setattr(root.get_submodule(parent), name, stand_in)
    try:
        yield
    finally:
        for parent, name, module in replaced:
            setattr(parent, name, module)


def _learned(module: Any) -> tuple[Any, Any, int]:
    """Return scale and zero point of a FakeQuantize, one number each or one for each channel, and the channels' axis."""
    import torch

    unsigned = int(module.activation_post_process.quant_min) >= 0
    per_channel = module.scale.numel() > 1
    zero = module.zero_point.detach().to(torch.uint8 if unsigned else torch.int8)
    scale = module.scale.detach().float()
    if not per_channel:
        return scale[0], zero[0], 1
    return scale, zero, int(getattr(module, "ch_axis", 0))
