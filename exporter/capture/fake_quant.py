"""Modules trained with rounding: `torch.ao`'s FakeQuantize decides at run time whether it observes, which no tracer can follow.

While a model is traced, each is replaced by one that only rounds, with the scale and zero point it has learned.
"""

from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

from ...errors import SourceError


def check_learned(root: Any) -> None:
    """SourceError naming the first FakeQuantize that rounds without ever having seen a value: its scale is a placeholder."""
    import torch
    from torch.ao.quantization import FakeQuantizeBase

    for path, module in root.named_modules():
        if not isinstance(module, FakeQuantizeBase) or not bool(module.fake_quant_enabled[0]):
            continue
        low = torch.as_tensor(getattr(module.activation_post_process, "min_val", float("inf")))
        unseen = low.numel() == 0 or not bool(torch.isfinite(low).all())
        scale: Any = module.scale
        if unseen and bool((scale == 1).all()):
            raise SourceError(
                f"{path}: this FakeQuantize has no scale yet; run the model on some text before exporting it"
            )


@contextmanager
def frozen(root: Any) -> Iterator[None]:
    """Within, every FakeQuantize of `root` rounds and does nothing else."""
    import torch
    from torch.ao.quantization import FakeQuantizeBase

    class Rounding(torch.nn.Module):
        """QuantizeLinear and DequantizeLinear, per tensor or along an axis, of eight bits."""

        def __init__(self, learned: Any):
            super().__init__()
            unsigned = int(learned.activation_post_process.quant_min) >= 0
            self.by_channel = learned.scale.numel() > 1
            zero = learned.zero_point.detach().to(torch.uint8 if unsigned else torch.int8)
            scale = learned.scale.detach().float()
            self.register_buffer("scale", scale if self.by_channel else scale[0])
            self.register_buffer("zero_point", zero if self.by_channel else zero[0])
            self.axis = int(getattr(learned, "ch_axis", 0)) if self.by_channel else 1

        def forward(self, x: Any) -> Any:
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
            one: Any = torch.nn.Identity()
        else:
            one = Rounding(module)
        parent, _, name = path.rpartition(".")
        replaced.append((root.get_submodule(parent), name, module))
        setattr(root.get_submodule(parent), name, one)
    try:
        yield
    finally:
        for parent, name, module in replaced:
            setattr(parent, name, module)
