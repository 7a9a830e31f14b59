"""Set up the target that a recipe asks for, by the table of targets."""

from importlib import import_module
from typing import Any, Literal

from ...errors import UsageError
from ...kernels.cpu import library_path
from ...manifest import Manifest
from ..recipe.passes import QuantizeSpec
from ..recipe.recipe import Recipe
from ..recipe.targets import TARGETS, TargetEntry
from .base import Target


def kernels_of(recipe: Recipe) -> Literal["auto", "stock", "custom"]:
    """Return whose operators a recipe's bundle for CPUs has.

    "auto" becomes stock where neither a pass nor the data type wants Headway's own operators, or where they are not built and a
    pass has another way.
    """
    entry = TARGETS[recipe.target]
    if entry.device != "cpu" or "custom" not in entry.kernels:
        return "stock"
    if recipe.dtype in entry.own_dtypes:
        return recipe.kernels
    wanted = any(isinstance(p, QuantizeSpec) and p.activations in ("auto", "per-token") for p in recipe.passes)
    return "stock" if recipe.kernels == "auto" and not (wanted and library_path() is not None) else recipe.kernels


def target_of(recipe: Recipe) -> Target:
    """Return the target that a recipe asks for, set up as it says. Raise UsageError where its options do not go together."""
    entry = TARGETS[recipe.target]
    _check_options(recipe, entry)
    target: Target = _import(entry.factory)(recipe)
    return target


def card_lines(manifest: Manifest) -> list[str]:
    """Return what a bundle's card says that only its target knows."""
    entry = TARGETS.get(manifest.target)
    return list(_import(entry.card)(manifest)) if entry is not None and entry.card else []


def _check_options(recipe: Recipe, entry: TargetEntry) -> None:
    if recipe.verify == "module" and not entry.convert_only:
        raise UsageError(f"target {recipe.target}: its artifact itself is checked; leave verify out")
    if recipe.kernels == "custom" and "custom" not in entry.kernels:
        raise UsageError(f"target {recipe.target}: {entry.kernels_hint}")
    if recipe.verify != "module" and entry.convert_only:
        raise UsageError(
            f"target {recipe.target} converts only: {entry.convert_only}, so that it cannot be checked here. "
            "Say `verify: module` (--verify module) to have the module checked that it is converted from"
        )
    if recipe.dtype not in entry.dtypes:
        raise UsageError(f"target {recipe.target}: {entry.dtype_hint.format(dtype=recipe.dtype)}")
    if recipe.dtype in entry.own_dtypes and recipe.kernels == "stock":
        raise UsageError(
            f"target {recipe.target}: {recipe.dtype} is computed by Headway's own operators alone: choose `kernels: custom` "
            "(--kernels custom), or leave dtype out"
        )


def _import(place: str) -> Any:
    """Import "module:name"."""
    module, _, name = place.partition(":")
    return getattr(import_module(module), name)
