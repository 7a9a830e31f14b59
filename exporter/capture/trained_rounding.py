"""Decide what of a module's own fake quantization a graph can follow: weights as integers, and which activations. Imports torch.

A graph rounds weights, and activations that linear layers alone read. The module is changed to round just those: it is the judge.
"""

from collections import Counter
from collections.abc import Callable
from dataclasses import dataclass, field
from typing import Any

import torch

from ...errors import SourceError
from ..source.checkpoints.quantization import counted
from .rounding_probe import Rounded, watched

_ELSEWHERE = "elsewhere than in front of matmuls of tokens by int8 weights"
_OTHER_RANGE = "to a range that is not all of int8 or uint8"
_CHANNELS = "by a scale for each channel"


@dataclass
class TrainedRounding:
    """What is done with each FakeQuantize that rounds.

    `weights` become integers, `floats` are held as the numbers that they are rounded to, and `kept` round activations; these are
    paths. `left` are the modules whose rounding of activations is switched off, and why, by path.
    """

    weights: list[str] = field(default_factory=list)
    floats: list[str] = field(default_factory=list)
    kept: list[str] = field(default_factory=list)
    left: dict[str, tuple[Any, str]] = field(default_factory=dict)

    def sentence(self) -> str:
        """Say what becomes of weights and activations."""
        weights = counted(len(self.weights), "rounded to the integers of their own scales")
        parts = [f"torch's fake quantization: {weights}"]
        if self.floats:
            parts[0] += f", {len(self.floats)} held as floats, since no integers of 8 bits give them ({self.floats[0]})"
        if self.kept:
            parts.append(f"activations are rounded in {places(len(self.kept))}")
        if self.left:
            counts = Counter(reason for _, reason in self.left.values())
            reasons = ", ".join(f"{count} {reason}" for reason, count in counts.items())
            parts.append(
                f"the roundings of activations in {places(len(self.left))} are left out, and these are computed in floats: {reasons} "
                f"(first: {next(iter(self.left))})"
            )
        return "; ".join(parts)


def places(count: int) -> str:
    """Return "1 place" or "n places"."""
    return f"{count} place{'' if count == 1 else 's'}"


def fit_rounding(root: Any, run: Callable[[], object]) -> TrainedRounding:
    """Switch off, in place, what a graph cannot round as the module `root` does; `run` runs it once on some text.

    Weights become the numbers that they are rounded to. SourceError naming a FakeQuantize that rounds them in a way that cannot be
    followed.
    """
    with watched(root) as (places, read):
        run()
    fitted, symmetric = TrainedRounding(), []
    for path, place in places.items():
        _check(path, place)
        if not place.parameters:
            continue
        module = root.get_submodule(path)
        levels = _weight(root, path, module, place.parameters[0], read)
        if levels is None:
            fitted.floats.append(path)
            module.disable_fake_quant()
            continue
        fitted.weights.append(path)
        along_rows = module.scale.numel() == 1 or int(getattr(module, "ch_axis", 0)) == 0
        if along_rows and levels.min() >= -128 and levels.max() <= 127:
            symmetric.append(place)
    for path, place in places.items():
        if not place.activations:
            continue
        module = root.get_submodule(path)
        reason = _why_left(module, place, symmetric)
        if reason is None:
            fitted.kept.append(path)
        else:
            fitted.left[path] = module, reason
            module.disable_fake_quant()
    return fitted


def _check(path: str, place: Rounded) -> None:
    if place.computed:
        raise SourceError(
            f"{path}: this FakeQuantize rounds a weight that is computed anew whenever the model runs, as with a pruning mask: store the "
            "weight as it is (torch.nn.utils.prune.remove, torch.nn.utils.parametrize.remove_parametrizations)"
        )
    if len(place.parameters) > 1 or (place.parameters and place.activations):
        others = "activations" if place.activations else "other weights"
        raise SourceError(
            f"{path}: this FakeQuantize rounds a weight and {others} by one scale: give each a FakeQuantize of its own"
        )


def _weight(root: Any, path: str, module: Any, weight: Any, read: set[int]) -> Any:
    """Make a weight the numbers that it is rounded to; return their integers less the zero point, None where 8 bits do not give them."""
    with torch.no_grad():
        rounded = module(weight).detach().clone()
        levels = _levels(module, rounded)
        if levels is not None and not torch.equal(levels * _along(module, module.scale, rounded), rounded):
            levels = None
        owner = _owner(root, path, weight, read)
        if owner is not None:
            setattr(*owner, torch.nn.Parameter(rounded, requires_grad=weight.requires_grad))
        elif levels is None or not torch.equal(levels, _levels(module, weight)):
            raise SourceError(
                f"{path}: this FakeQuantize rounds a weight that something else reads as it is, to other numbers than int8 or uint8 do: "
                "give the two a parameter each"
            )
    return levels


def _owner(root: Any, path: str, weight: Any, read: set[int]) -> tuple[Any, str] | None:
    """Return the module that a weight can be changed in, and its name there: nothing else may read it as it is."""
    parent = root.get_submodule(path.rpartition(".")[0])
    for name, own in parent.named_parameters(recurse=False):
        if own is weight:
            return parent, name
    owners = [n for n, p in root.named_parameters(remove_duplicate=False) if p is weight]
    if len(owners) != 1 or id(weight) in read:
        return None
    holder, _, name = owners[0].rpartition(".")
    return root.get_submodule(holder), name


def _levels(module: Any, weight: Any) -> Any:
    """Return the integers less the zero point that int8 or uint8 round a weight to, None where neither has the zero point."""
    scale, zero = (_along(module, vector, weight) for vector in (module.scale, module.zero_point))
    least, greatest = _type_range(module)
    if bool(((zero.round() != zero) | (zero < least) | (zero > greatest)).any()):
        return None
    return ((weight / scale).round() + zero).clamp(least, greatest) - zero


def _along(module: Any, vector: Any, weight: Any) -> Any:
    """Return one number, or one for each channel of a weight, so that it can be multiplied with it."""
    shape = [1] * weight.ndim
    if vector.numel() > 1:
        shape[int(getattr(module, "ch_axis", 0))] = -1
    return vector.detach().reshape(shape)


def _type_range(module: Any) -> tuple[int, int]:
    return (0, 255) if int(module.activation_post_process.quant_min) >= 0 else (-128, 127)


def _why_left(module: Any, place: Rounded, symmetric: list[Rounded]) -> str | None:
    """Return why a rounding of activations is left out, or None."""
    if module.scale.numel() != 1:
        return _CHANNELS
    observer = module.activation_post_process
    if (int(observer.quant_min), int(observer.quant_max)) != _type_range(module):
        return _OTHER_RANGE
    followed = place.weights and all(any(w is s for s in symmetric) for w in place.weights)
    return None if followed and not place.elsewhere else _ELSEWHERE
