"""HQQ: integers of 1, 2, 3, 4 or 8 bits as `W_q`, with scales and zero points that are fractions, and their layout beside them."""

from typing import Any

from .....errors import SourceError
from ..checkpoint import Checkpoint
from ..integers import Integers, IntegerWeight
from ..quantization import beside, checked, counted, quantized, settings_of
from ..state import StoredTensor

ORDER = 10
NAME = "HQQ"
MARKS = (".W_q",)

_PARTS = (
    "W_q",
    "axis",
    "channel_wise",
    "compute_dtype",
    "encoded_state_dict",
    "group_size",
    "nbits",
    "offload_meta",
    "optimize",
    "packing",
    "quant_scale",
    "quant_zero",
    "round_zero",
    "scale",
    "shape",
    "stores_quant_config",
    "unpack_view_dtype",
    "view_as_float",
    "zero",
)
_USED = ("quant_config", "weight_quant_params", "nbits", "group_size", "axis")
_PACKED = {
    "8bit_u8": (8, 1, "uint8"),
    "4bit_u8": (4, 2, "uint8"),
    "2bit_u8": (2, 4, "uint8"),
    "1bit_u8": (1, 8, "uint8"),
}
_PACKED |= {"3bit_32": (3, 10, "int32")}
"""Bits, integers in each number, and its type."""


def read(checkpoint: Checkpoint) -> Checkpoint | None:
    """Unpack `W_q`, whose first rows lie in the highest bits, to groups of consecutive inputs (axis 1) or of outputs (axis 0).

    The layout is that of hqq's `BitPack` and of `HQQLinear.state_dict` with tensors for all that it holds. Weights in groups along
    outputs have no integers that a graph could hold: they are read as floats. SourceError where a layout contradicts its tensors.
    """
    stems = [n.removesuffix(".W_q") for n in checkpoint.state if n.endswith(".W_q")]
    if not stems:
        return None
    settings_of(checkpoint, "hqq", _USED)
    found: dict[str, Integers] = {}
    floats: dict[str, StoredTensor] = {}
    for stem in stems:
        weight = _weight(checkpoint, stem)
        if isinstance(weight, Integers):
            found[f"{stem}.weight"] = weight
        else:
            floats[f"{stem}.weight"] = weight
    used = [f"{stem}.{part}" for stem in stems for part in _PARTS]
    sentence = (
        f"HQQ: {counted(len(stems), 'of few bits')}, read as the exact values of their integers, scales and zero points"
    )
    return quantized(checkpoint, found, used, sentence, floats=floats, marks=MARKS)


def _note(checkpoint: Checkpoint, stem: str, part: str, default: object = None) -> Any:
    """Return a setting of a layer, which is stored as a small tensor: a number, numbers, or the bytes of a word."""
    stored = checkpoint.state.get(f"{stem}.{part}")
    if stored is None and default is not None:
        return default
    stored = beside(checkpoint, f"{stem}.W_q", f"{stem}.{part}")
    if len(stored.shape) > 1 or (stored.shape and stored.shape[0] > 64) or stored.floating:
        raise SourceError(
            f"{checkpoint.directory}: {stem}.{part} is {stored.dtype}{list(stored.shape)}, a small setting is expected"
        )
    values = stored.read().tolist()
    kind: Any = list if part in ("packing", "shape") else int if default is None else (int, list)
    if not isinstance(values, kind) or (part == "packing" and min(values, default=0) < 0):
        raise SourceError(f"{checkpoint.directory}: {stem}.{part} is {str(values)[:40]}: download the checkpoint again")
    return "".join(map(chr, values)) if part == "packing" else values


def _weight(checkpoint: Checkpoint, stem: str) -> Integers | StoredTensor:
    name, directory = f"{stem}.W_q", checkpoint.directory
    packed = checkpoint.state[name]
    packing, shape = _note(checkpoint, stem, "packing"), _note(checkpoint, stem, "shape")
    axis, bits = _note(checkpoint, stem, "axis"), _note(checkpoint, stem, "nbits")
    for part in ("view_as_float", "quant_scale", "quant_zero"):
        if _note(checkpoint, stem, part, 0):
            raise SourceError(f"{directory}: {stem}.{part} is true, which is not read: save the layer without it")
    known = _PACKED.get(packing, (0, 0, ""))
    if known[0] < bits or packed.dtype != known[2] or len(packed.shape) != 2 or axis not in (0, 1) or len(shape) != 2:
        raise SourceError(
            f"{directory}: {name} is {packed.dtype}{list(packed.shape)} with packing {packing!r}, axis {axis}, {bits} bits and shape "
            f"{shape}: not as HQQ saves it"
        )
    out, inputs = shape
    rows, columns = packed.shape[0] * known[1], packed.shape[1]
    scale = beside(checkpoint, name, f"{stem}.scale", integer=False)
    zero = beside(checkpoint, name, f"{stem}.zero", scale.shape, integer=False)
    size = out * inputs
    whole = rows - (known[1] - 1) <= size // max(columns, 1) <= rows if packing == "3bit_32" else rows * columns == size
    if not whole or min(out, inputs) < 1 or size % max(columns, 1):
        raise SourceError(
            f"{directory}: {name} is {list(packed.shape)}, which is not {out} x {inputs} of {bits} bits: download it again"
        )
    groups = size // columns if axis == 1 else columns
    if scale.shape != ((groups, 1) if axis == 1 else (1, groups)) or (axis == 1 and inputs % columns):
        raise SourceError(
            f"{directory}: {stem}.scale is {list(scale.shape)}, which is not one for each of {groups} groups of {name}: give tensors of "
            "one model"
        )

    def load() -> IntegerWeight:
        codes = _unpacked(packed.read(), *known[:2])[: size // columns].reshape(out, inputs)
        return IntegerWeight(codes, scale.read().float().reshape(out, -1), bits, zero.read().float().reshape(out, -1))

    def along_outputs() -> Any:
        codes = _unpacked(packed.read(), *known[:2])[: size // columns]
        return ((codes.float() - zero.read().float()) * scale.read().float()).reshape(out, inputs)

    if axis == 0:
        return StoredTensor((out, inputs), "float32", along_outputs)
    return Integers((out, inputs), checked(checkpoint, name, load))


def _unpacked(packed: Any, bits: int, parts: int) -> Any:
    """Return all integers, uint8 `[parts * rows, columns]`: the first rows were in the highest bits of those that are used."""
    import torch

    return torch.cat([((packed >> bits * (parts - 1 - i)) & (2**bits - 1)).to(torch.uint8) for i in range(parts)])
