"""Settings of bitsandbytes' two forms, and its blocks of 4-bit codes, whose 16 values are no multiples of each other."""

from dataclasses import dataclass
from typing import Any

from ....errors import SourceError
from ....json_file import parse_json
from .checkpoint import Checkpoint
from .quantization import beside
from .state import StoredTensor

QUANT_METHOD = "bitsandbytes"
METHOD_SETTINGS = (
    "bnb_4bit_compute_dtype",
    "bnb_4bit_quant_storage",
    "bnb_4bit_quant_type",
    "bnb_4bit_use_double_quant",
    "llm_int8_enable_fp32_cpu_offload",
    "llm_int8_has_fp16_weight",
    "llm_int8_skip_modules",
    "llm_int8_threshold",
)
"""Types that its kernels compute and store in, and layers that stay float: the tensors themselves say all that is read here."""

_LONGEST = 4096
KINDS = ("nf4", "fp4")


@dataclass(frozen=True)
class Blocks:
    """The parts of a 4-bit weight, and what its `quant_state` says of them."""

    packed: StoredTensor
    absmax: StoredTensor
    values: StoredTensor
    shape: tuple[int, int]
    block: int
    nested: tuple[StoredTensor, StoredTensor, int, float] | None
    """Scales of the scales, the 256 values of their codes, the size of their blocks, and what is added."""

    def read(self) -> Any:
        """Return the weight, float32 `[out, in]`: `values[code] · absmax[block]`, high nibble first."""
        import torch

        octets = self.packed.read().contiguous().view(torch.uint8).reshape(-1)
        codes = torch.stack([octets >> 4, octets & 15], dim=1).reshape(-1).long()
        absmax = self.absmax.read().reshape(-1)
        if self.nested is not None:
            scales, values, size, offset = self.nested
            blocks = torch.arange(len(absmax)) // size
            absmax = values.read().float()[absmax.long()] * scales.read().float()[blocks] + offset
        out, inputs = self.shape
        scale = absmax.float()[torch.arange(out * inputs) // self.block]
        return (self.values.read().float()[codes[: out * inputs]] * scale).reshape(out, inputs)


def blocks_of(checkpoint: Checkpoint, name: str, kind: str) -> Blocks:
    """Return the parts of the weight `name`. SourceError where one is missing, or where shapes and `quant_state` disagree."""
    state_name = f"{name}.quant_state.bitsandbytes__{kind}"
    packed = beside(checkpoint, state_name, name)
    settings = _settings(checkpoint, state_name)
    shape, block = settings.get("shape"), settings.get("blocksize")
    width = {"uint8": 1, "int8": 1, "float16": 2, "bfloat16": 2, "float32": 4}.get(packed.dtype, 0)
    octets = width
    for size in packed.shape:
        octets *= size
    sizes = shape if isinstance(shape, list) and all(isinstance(s, int) and s > 0 for s in shape) else []
    if len(sizes) != 2 or not isinstance(block, int) or block < 1 or octets != -(-sizes[0] * sizes[1] // 2):
        raise SourceError(
            f"{checkpoint.directory}: {name} is {packed.dtype}{list(packed.shape)}, and {state_name} says shape {shape} in blocks of "
            f"{block}: download the checkpoint again"
        )
    blocks = -(-sizes[0] * sizes[1] // block)
    absmax = beside(checkpoint, name, f"{name}.absmax", (blocks,))
    values = beside(checkpoint, name, f"{name}.quant_map", (16,), integer=False)
    return Blocks(packed, absmax, values, (sizes[0], sizes[1]), block, _nested(checkpoint, name, settings, absmax))


def _settings(checkpoint: Checkpoint, name: str) -> dict[str, Any]:
    stored = checkpoint.state[name]
    if len(stored.shape) != 1 or stored.shape[0] > _LONGEST or stored.dtype != "uint8":
        raise SourceError(
            f"{checkpoint.directory}: {name} is {stored.dtype}{list(stored.shape)}, the bytes of a short JSON object are expected"
        )
    try:
        settings = parse_json(bytes(stored.read().tolist()))
    except ValueError as error:
        raise SourceError(
            f"{checkpoint.directory}: {name} is not a JSON object: download the checkpoint again"
        ) from error
    return settings if isinstance(settings, dict) else {}


def _nested(
    checkpoint: Checkpoint, name: str, settings: dict[str, Any], absmax: StoredTensor
) -> tuple[StoredTensor, StoredTensor, int, float] | None:
    if absmax.floating:
        return None
    size, offset = settings.get("nested_blocksize"), settings.get("nested_offset")
    if absmax.dtype != "uint8" or not isinstance(size, int) or size < 1 or not isinstance(offset, int | float):
        raise SourceError(
            f"{checkpoint.directory}: {name}.absmax is {absmax.dtype}, and no nested_blocksize and nested_offset say what it stands for"
        )
    scales = beside(checkpoint, name, f"{name}.nested_absmax", (-(-absmax.shape[0] // size),), integer=False)
    values = beside(checkpoint, name, f"{name}.nested_quant_map", (256,), integer=False)
    return scales, values, size, float(offset)
