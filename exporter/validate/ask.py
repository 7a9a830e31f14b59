"""Put a question together from options and the bundle's recipe, have it answered, and write what was found."""

from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import Any, TypedDict

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


class GateOptions(TypedDict, total=False):
    """What `headway.gate` takes beside limits and folder; see `Question` for each."""

    baseline: str | Path | None
    lock: bool
    mode: str
    data: str | Path | None
    column: str | None
    against: str | Path | None
    threads: int
    scenarios: Sequence[str]
    sweep: bool
    bound_ms: float | None
    tokenize: bool


def ask(
    bundle: Path,
    gates: Mapping[str, Any],
    out: Path | None,
    on_step: Callable[..., None],
    *,
    mode: str = "default",
    lock: bool = False,
    baseline: str | Path | None = None,
    data: str | Path | None = None,
    against: str | Path | None = None,
    **given: Any,
) -> GateResult:
    """Return the verdict on a bundle; the other arguments are those of `Question`. UsageError names a gate that is not known."""
    if mode not in MODES:
        raise UsageError(f"mode {mode!r} is not known: give {', '.join(MODES)}")
    try:
        asked = Gates(**gates)
    except ValidationError as error:
        raise UsageError(f"gates: {in_words(error.errors())}") from error
    if (bundle / RECIPE_FILE).is_file():
        asked = read_recipe(bundle / RECIPE_FILE).gates.model_copy(update=asked.model_dump(exclude_none=True))
    if out is not None:
        output_folder(out)  # before anything is measured
    question = Question(
        bundle,
        asked.given,
        MODES[mode],
        baseline=None if baseline is None else Path(baseline),
        data=None if data is None else Path(data),
        against=None if against is None else str(against),
        lock=lock,
        **given,
    )
    result, written = gate_bundle(question, on_step)
    failed_its_lock = baseline is not None and result.verdict == "fail"  # a lock of what failed would let it pass
    if written is not None and result.crash is None and not failed_its_lock:
        file = (out or Path()) / LOCK_FILE
        written.write(file)
        result.files.append(file)
    if out is not None:
        result.files += write_result(result, out)
    return result
