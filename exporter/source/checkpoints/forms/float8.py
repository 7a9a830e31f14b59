"""8-bit floats (e4m3, e5m2) with `weight_scale` or `weight_scale_inv`: per tensor, per output, or per block of 128 by 128."""

from typing import Any

from .....errors import SourceError
from ..checkpoint import Checkpoint
from ..float8_weights import dequantized
from ..quantization import SETTINGS, counted, method_of, quantized, settings_of
from ..state import StoredTensor

ORDER = 11
NAME = "8-bit floats"
MARKS = (".weight_scale_inv",)

_METHODS = ("fp8", "fbgemm_fp8", "finegrained_fp8", "modelopt")
_USED = ("weight_block_size", "fmt", "activation_scheme", "quant_algo", "activation_scale_ub", "dequantize")
_SCALES = (".weight_scale_inv", ".weight_scale", ".scale_weight", ".weight.scale")
_RUN_TIME = (".input_scale", ".input_scale_ub", ".activation_scale")


def read(checkpoint: Checkpoint) -> Checkpoint | None:
    """Multiply each weight in float8 by its scales, whatever their name says. A weight without scales is cast to float32.

    No target here computes with 8-bit floats and these scales, so the artifact holds floats, and activations are not rounded.
    SourceError where scales do not fit their weight, or a file has scales without one.
    """
    names = [n for n, t in checkpoint.state.items() if t.dtype.startswith("float8")]
    if not names:
        return None
    method = method_of(checkpoint)
    settings = settings_of(checkpoint, method if method is not None and method in _METHODS else "fp8", _USED)
    block = _block(checkpoint, settings.get("weight_block_size"))
    floats: dict[str, StoredTensor] = {}
    used: list[str] = []
    for name in names:
        stem = name.removesuffix(".weight")
        scales = [stem + ending for ending in _SCALES if stem + ending in checkpoint.state]
        if len(scales) > 1:
            raise SourceError(
                f"{checkpoint.directory}: {name} has two scales, {scales[0]} and {scales[1]}: keep one of the two"
            )
        if scales:
            blocks = block if len(checkpoint.state[scales[0]].shape) == 2 else None
            floats[name] = dequantized(checkpoint, name, scales[0], blocks)
        elif settings:
            raise SourceError(
                f"{checkpoint.directory}: {name} has no {stem}.weight_scale beside it: download the checkpoint again"
            )
        else:
            floats[name] = checkpoint.state[name].computed(lambda tensor: tensor.float())
        used += [name, *scales, *(stem + ending for ending in _RUN_TIME)]
    kinds = " and ".join(sorted({checkpoint.state[n].dtype.split("_")[1].removesuffix("fn") for n in names}))
    sentence = f"8-bit floats ({kinds}): {counted(len(names), 'dequantized, which the artifact holds as floats')}"
    return quantized(checkpoint, {}, used, sentence, floats=floats, marks=MARKS)


def _block(checkpoint: Checkpoint, sizes: Any) -> tuple[int, int] | None:
    if sizes is None:
        return None
    if not isinstance(sizes, list) or len(sizes) != 2 or not all(isinstance(s, int) and s > 0 for s in sizes):
        raise SourceError(
            f"{checkpoint.directory}: {SETTINGS} of config.json has weight_block_size = {sizes!r}, two sizes are expected"
        )
    return sizes[0], sizes[1]
