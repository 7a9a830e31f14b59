"""torch.ao's quantization-aware training: float weights beside `weight_fake_quant`, whose scales round them to integers."""

import re
from collections.abc import Mapping
from typing import Any

from .....errors import SourceError
from ..checkpoint import Checkpoint
from ..integers import Integers, IntegerWeight, needed_zero
from ..observed_ranges import integer_range
from ..quantization import beside, checked, counted, quantized, settings_of
from ..state import StoredTensor

ORDER = 10
NAME = "torch's fake quantization"
MARKS = (".fake_quant_enabled", ".observer_enabled", ".weight_fake_quant.scale", ".weight_fake_quant.zero_point")

_WEIGHT = re.compile(r"(.+)\.weight_fake_quant\.(.+)")
_ACTIVATION = re.compile(r"(?:.+\.)?activation_post_process(?:_\d+)?\.(?:activation_post_process\.)?[^.]+")
_OBSERVED = "activation_post_process"


def read(checkpoint: Checkpoint) -> Checkpoint | None:
    """Round each weight as its `weight_fake_quant` does with the scale and zero point that are stored.

    A weight whose fake quantization is switched off stays as it is. Activations are computed as floats; what was observed of them
    is left out. SourceError for scales that training never set, and for those that follow from no range of integers.
    """
    state = checkpoint.state
    matches = [match for name in state if (match := _WEIGHT.fullmatch(name))]
    stems = sorted({match[1] for match in matches})
    activations = [name for name in state if _ACTIVATION.fullmatch(name) and not _WEIGHT.fullmatch(name)]
    if not (stems or activations) or any(f"{stem}.weight_orig" in state for stem in stems):
        return None  # masks are folded into weights before these are rounded
    settings_of(checkpoint, "torch", ())
    found = {f"{s}.weight": _weight(checkpoint, s) for s in stems if _is_on(checkpoint, f"{s}.weight_fake_quant")}
    rounded = [n for n in activations if n.endswith(".fake_quant_enabled") and _is_on(checkpoint, n.rpartition(".")[0])]
    used = [*found, *(match[0] for match in matches), *activations]
    return quantized(checkpoint, found, used, _sentence(len(found), len(stems) - len(found), len(rounded)))


def _sentence(weights: int, off: int, activations: int) -> str:
    if not (weights or off or activations):
        return "torch's observers, which compute nothing, are left out"
    said = f"torch's fake quantization: {counted(weights, 'rounded to the integers of their stored scales')}"
    if off:
        said += f", {off} whose rounding is switched off as they are"
    if activations:
        said += f"; activations are computed in floats, which training rounded in {activations} places by stored ranges"
    return said


def _is_on(checkpoint: Checkpoint, path: str) -> bool:
    switch = beside(checkpoint, path, f"{path}.fake_quant_enabled", integer=True)
    if any(size != 1 for size in switch.shape):
        raise SourceError(
            f"{checkpoint.directory}: {path}.fake_quant_enabled is {list(switch.shape)}, one number is expected"
        )
    return bool(switch.read().any())


def _weight(checkpoint: Checkpoint, stem: str) -> Integers:
    """Return the integers that a layer's fake quantization rounds its weight to."""
    name = f"{stem}.weight"
    if name in checkpoint.integers:
        raise SourceError(
            f"{checkpoint.directory}: {name} is saved as integers, and {stem}.weight_fake_quant rounds floats: save one of the two"
        )
    weight = beside(checkpoint, f"{stem}.weight_fake_quant", name, integer=False)
    if len(weight.shape) != 2:
        raise SourceError(f"{checkpoint.directory}: {name} is {list(weight.shape)}, two axes are expected")
    path = f"{stem}.weight_fake_quant"
    scale = beside(checkpoint, name, f"{path}.scale", integer=False)
    if scale.shape not in ((), (1,), (weight.shape[0],)):
        raise SourceError(
            f"{checkpoint.directory}: {path}.scale is {list(scale.shape)}, and {name} {list(weight.shape)}: one number, or one for each "
            "row, is expected: give scales and weights of one model"
        )
    zero = beside(checkpoint, name, f"{path}.zero_point", scale.shape)
    observed = [beside(checkpoint, name, f"{path}.{_OBSERVED}.{end}", integer=False) for end in ("min_val", "max_val")]

    def load() -> IntegerWeight:
        rows = weight.shape[0]
        step, at = scale.read().float().reshape(-1, 1), zero.read().reshape(-1, 1)
        floats = weight.read().float()
        _check_numbers(checkpoint, {name: floats, f"{path}.scale": step, f"{path}.zero_point": at})
        least, greatest = _range(checkpoint, path, step, at, observed)
        quotients = floats * (1 / step)
        # torch adds zero points that are fractions before it rounds, and integers afterwards.
        codes = (quotients + at).round() if at.is_floating_point() else quotients.round() + at
        bits = (greatest - least).bit_length()
        codes = codes.clamp(least, greatest).int()
        return IntegerWeight(codes, step.expand(rows, 1), bits, needed_zero(at.expand(rows, 1)))

    return Integers((weight.shape[0], weight.shape[1]), checked(checkpoint, name, load))


def _check_numbers(checkpoint: Checkpoint, tensors: Mapping[str, Any]) -> None:
    for name, tensor in tensors.items():
        positive = name.endswith(".scale")
        if not bool((tensor.isfinite() & ((tensor > 0) | (not positive))).all()):
            kind = "positive and finite" if positive else "finite"
            raise SourceError(
                f"{checkpoint.directory}: {name} has numbers that are not {kind}: download the checkpoint again"
            )


def _range(checkpoint: Checkpoint, path: str, scale: Any, zero: Any, observed: list[StoredTensor]) -> tuple[int, int]:
    """Return the least and the greatest integer to which a layer's fake quantization rounds."""
    low, high = (tensor.read().float().reshape(-1) for tensor in observed)
    if not (low.numel() and high.numel() and bool((low.isfinite() & high.isfinite()).all())):
        raise SourceError(
            f"{checkpoint.directory}: {path} has never observed a weight, so its scale is none: run training on some text first, or save "
            "the model before prepare_qat"
        )
    found = integer_range(scale, zero, low, high) if len(low) == len(high) == len(scale) else None
    if found is None:
        raise SourceError(
            f"{checkpoint.directory}: {path}.scale and zero_point follow from {path}.{_OBSERVED}.min_val and max_val for no integers of 2 "
            "to 8 bits, so nothing says how the weight is rounded: convert the model with torch.ao.quantization.convert, or save its "
            "float weights"
        )
    return found
