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
    from torch.ao.quantization import FakeQuantizeBase

    for path, module in root.named_modules():
        if not isinstance(module, FakeQuantizeBase) or not bool(module.fake_quant_enabled[0]):
            continue
        low = torch.as_tensor(getattr(module.activation_post_process, "min_val", float("inf")))
        unobserved = low.numel() == 0 or not bool(torch.isfinite(low).all())
        scale: Any = module.scale
        if unobserved and bool((scale == 1).all()):
            raise SourceError(
                f"{path}: this FakeQuantize has no scale yet; run the model on some text before exporting it"
            )


@contextmanager
def frozen(root: Any) -> Iterator[None]:
    """Replace every FakeQuantize of `root` inside the block by a module that only rounds."""
    import torch
    from torch.ao.quantization import FakeQuantizeBase

    class Rounding(torch.nn.Module):
        """QuantizeLinear and DequantizeLinear to 8 bits, per tensor or along an axis."""

        def __init__(self, learned: Any):
            super().__init__()
            unsigned = int(learned.activation_post_process.quant_min) >= 0
            self.per_channel = learned.scale.numel() > 1
            zero = learned.zero_point.detach().to(torch.uint8 if unsigned else torch.int8)
            scale = learned.scale.detach().float()
            self.register_buffer("scale", scale if self.per_channel else scale[0])
            self.register_buffer("zero_point", zero if self.per_channel else zero[0])
            self.axis = int(getattr(learned, "ch_axis", 0)) if self.per_channel else 1

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
        if not isinstance(module, FakeQuantizeBase):
            continue
        if not bool(module.fake_quant_enabled[0]):
            stand_in: Any = torch.nn.Identity()
        else:
            stand_in = Rounding(module)
        parent, _, name = path.rpartition(".")
        replaced.append((root.get_submodule(parent), name, module))
        setattr(root.get_submodule(parent), name, stand_in)
    try:
        yield
    finally:
        for parent, name, module in replaced:
            setattr(parent, name, module)
