"""Integers with scales beside them (Q8BERT's and Q-BERT's weights): per tensor, per output, or per group of outputs or inputs."""

from typing import Any

from .....errors import SourceError
from ..checkpoint import Checkpoint
from ..integers import Integers, IntegerWeight
from ..packing import from_stream
from ..quantization import SETTINGS, checked, counted, method_of, per_group, quantized, settings_of
from ..state import StoredTensor

ORDER = 12
NAME = "integers with scales"
MARKS = (".quantized_weight", ".weight_scale", ".weight_zero_point")

_WEIGHTS = (".weight", ".quantized_weight", ".weight_q", ".weight_int8")
_SCALES = (".weight_scale", ".weight_scales", ".scale", ".scales", ".weight.scale")
_ZEROS = (".weight_zero_point", ".zero_point", ".weight.zero_point")
_USED = ("bits", "w_bits", "weight_bits", "group_size", "groups", "packed")


def read(checkpoint: Checkpoint) -> Checkpoint | None:
    """Take integers, int8 or uint8 `[out, in]`, with the scales beside them, whatever of their usual names they have.

    With `packed` and `bits` in `quantization_config`, bytes hold inputs lowest bits first, `[out, in · bits / 8]`. As many scales
    as outputs are one each; fewer are one for each of as many equal groups of outputs; two axes are groups of outputs and inputs.
    SourceError where scales are missing, do not fit, or where the config says other sizes.
    """
    stems = [
        (name.removesuffix(ending), name)
        for ending in _WEIGHTS
        for name, tensor in checkpoint.state.items()
        if name.endswith(ending) and tensor.dtype in ("int8", "uint8") and len(tensor.shape) == 2
    ]
    if not stems:
        return None
    method = method_of(checkpoint)
    settings = settings_of(checkpoint, method if method in ("qbert", "q8bert") else "int8", _USED)
    bits = next((settings[key] for key in ("bits", "w_bits", "weight_bits") if settings.get(key)), 8)
    if bits not in range(2, 9):
        raise SourceError(f"{checkpoint.directory}: {SETTINGS} of config.json says {bits!r} bits, 2 to 8 are read")
    found: dict[str, Integers] = {}
    used: list[str] = []
    for stem, name in stems:
        scale = _beside(checkpoint, stem, _SCALES)
        if scale is None:
            raise SourceError(
                f"{checkpoint.directory}: {name} has no scale beside it ({', '.join(stem + e for e in _SCALES[:3])}): save the scales with "
                "the integers"
            )
        zero = _beside(checkpoint, stem, _ZEROS)
        found[f"{stem}.weight"] = _weight(checkpoint, name, scale, zero, bits, settings)
        used += [name, scale, *([zero] if zero else [])]
    sentence = f"integers: {counted(len(found), f'of {bits} bits, read as the exact values of them and their scales')}"
    return quantized(checkpoint, found, used, sentence, marks=MARKS)


def _beside(checkpoint: Checkpoint, stem: str, endings: tuple[str, ...]) -> str | None:
    names = [stem + ending for ending in endings if stem + ending in checkpoint.state]
    if len(names) > 1:
        raise SourceError(
            f"{checkpoint.directory}: {names[0]} and {names[1]} are both there: keep the one that belongs to the integers"
        )
    return names[0] if names else None


def _weight(
    checkpoint: Checkpoint, name: str, scale_name: str, zero_name: str | None, bits: int, settings: Any
) -> Integers:
    stored = checkpoint.state[name]
    out, inputs = stored.shape
    packed = bool(settings.get("packed"))
    if packed:
        if stored.dtype != "uint8" or inputs * 8 % bits:
            raise SourceError(
                f"{checkpoint.directory}: {name} is {stored.dtype}{list(stored.shape)}, whose rows are not whole integers of {bits} "
                "bits in uint8: give the config.json that belongs to it"
            )
        inputs = inputs * 8 // bits
    shape = out, inputs
    scale = per_group(checkpoint, name, scale_name, shape)
    zero = per_group(checkpoint, name, zero_name, shape, integer=None) if zero_name is not None else None
    _check_groups(checkpoint, name, scale_name, shape, settings)

    def load() -> IntegerWeight:
        codes = from_stream(stored.read(), bits, inputs) if packed else stored.read()
        if packed and zero is None:  # packed bits have no sign: they are around half their range
            codes = codes.int() - 2 ** (bits - 1)
        _check_range(checkpoint, name, codes, bits)
        return IntegerWeight(codes, scale().float(), bits, zero() if zero is not None else None)

    return Integers(shape, checked(checkpoint, name, load))


def _check_range(checkpoint: Checkpoint, name: str, codes: Any, bits: int) -> None:
    low, high = int(codes.min()), int(codes.max())
    if high - low >= 2**bits or high >= 2**bits or low < -(2 ** (bits - 1)):
        raise SourceError(
            f"{checkpoint.directory}: {name} has integers from {low} to {high}, which are not of {bits} bits"
        )


def _check_groups(checkpoint: Checkpoint, name: str, scale_name: str, shape: tuple[int, int], settings: Any) -> None:
    """Refuse scales that are not as many as the config says."""
    stored: StoredTensor = checkpoint.state[scale_name]
    size, count = settings.get("group_size"), settings.get("groups")
    rows, columns = (*stored.shape, 1, 1)[:2]
    fits = size in (None, -1) or size * rows == shape[0] or size * columns == shape[1]
    if not fits or count not in (None, rows, columns):
        raise SourceError(
            f"{checkpoint.directory}: {scale_name} is {list(stored.shape)} for {name} {list(shape)}, and config.json says groups of "
            f"{size or f'{count} in number'}: give the config.json that belongs to it"
        )
