"""Put a question together from options and the bundle's recipe, have it answered, and write what was found."""

from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any

from pydantic import ValidationError

from ...errors import UsageError
from ..publish.staging import output_folder
from ..recipe.limits import Gates
from ..recipe.messages import in_words
from ..recipe.recipe import RECIPE_FILE, read_recipe
from .gate_bundle import Question, gate_bundle
from .lock import LOCK_FILE
from .modes import MODES
from .outputs import GateResult, write_result


def ask(
    bundle: Path,
    *,
    gates: Mapping[str, Any],
    mode: str,
    out: Path | None,
    lock: bool,
    on_step: Callable[..., None],
    **given: Any,
) -> GateResult:
    """Return the verdict on a bundle; the other arguments are those of `Question`. UsageError names a gate that is not known."""
    if mode not in MODES:
        raise UsageError(f"mode {mode!r} is not known: give {', '.join(MODES)}")
    try:
        limits = Gates(**gates).given
    except ValidationError as error:
        raise UsageError(f"gates: {in_words(error.errors())}") from error
    if (bundle / RECIPE_FILE).is_file():
        limits = read_recipe(bundle / RECIPE_FILE).gates.given | limits
    if out is not None:
        output_folder(out)  # before anything is measured
    result, written = gate_bundle(Question(bundle, limits, MODES[mode], lock=lock, **given), on_step)
    if written is not None and result.crash is None:
        file = (out or Path()) / LOCK_FILE
        written.write(file)
        result.files.append(file)
    if out is not None:
        result.files += write_result(result, out)
    return result
