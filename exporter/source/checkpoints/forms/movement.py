"""Movement pruning as its own tool saves it: `mask_scores` beside each weight, and `pruning_method` in the config."""

from typing import Any

from .....errors import SourceError
from ..checkpoint import Checkpoint
from ..roles import unlike
from ..scores import METHODS, mask_of
from ..state import StoredTensor

ORDER = 40
NAME = "movement pruning's scores"
MARKS = (".mask_scores",)

_SETTINGS = ("pruning_method", "mask_init", "mask_scale", "final_threshold")
_MASKED = "masked_bert"


def read(checkpoint: Checkpoint) -> Checkpoint | None:
    """Multiply each weight by the mask that its scores give, as at evaluation. Settings of the training of masks are removed.

    SourceError where the threshold is not in the files, a weight is missing, or the method is unknown.
    """
    config = checkpoint.config
    stems = [n.removesuffix(".mask_scores") for n in checkpoint.state if n.endswith(".mask_scores")]
    # Those of modules below the weight are another tool's.
    stems = [s for s in stems if f"{s}.weight" in checkpoint.state]
    if config.get("model_type") != _MASKED and not stems:
        return None
    method, threshold = config.get("pruning_method"), config.get("final_threshold")
    if method == "magnitude":
        stems = _magnitude_stems(checkpoint)
    _check(checkpoint, stems, method, threshold)
    masked = {f"{stem}.weight": _masked(checkpoint, stem, str(method), threshold) for stem in stems}
    state = {n: t for n, t in checkpoint.state.items() if not n.endswith(".mask_scores")} | masked
    settings: dict[str, Any] = {name: value for name, value in config.items() if name not in _SETTINGS}
    if settings.get("model_type") == _MASKED:
        settings["model_type"] = "bert"
        names = settings.get("architectures") or []
        settings["architectures"] = [str(name).removeprefix("Masked") for name in names]
    kept = (
        f", {threshold:g} kept"
        if method in ("topK", "magnitude")
        else f" {threshold:g}"
        if threshold is not None
        else ""
    )
    return checkpoint.changed(
        f"movement pruning's {method} masks{kept}, folded into {len(stems)} weights", state=state, config=settings
    )


def _magnitude_stems(checkpoint: Checkpoint) -> list[str]:
    """Return the layers that the tool masks by their own weights: those of the encoder, and the pooler."""
    inside = (".encoder.", ".pooler.")
    return [
        n.removesuffix(".weight")
        for n, t in checkpoint.state.items()
        if n.endswith(".weight") and len(t.shape) == 2 and any(part in f".{n}" for part in inside)
    ]


def _check(checkpoint: Checkpoint, stems: list[str], method: Any, threshold: Any) -> None:
    place = checkpoint.directory
    if method not in METHODS:
        raise SourceError(
            f"{place}: pruning_method of config.json = {method!r}: one of {', '.join(METHODS)} says what the scores beside the weights "
            "mean; give the config that belongs to them"
        )
    if not stems:
        raise SourceError(
            f"{place}: pruning_method = {method!r}, and no weight has mask_scores beside it: download it again"
        )
    if method != "l0" and (isinstance(threshold, bool) or not isinstance(threshold, int | float)):
        raise SourceError(
            f"{place}: {stems[0]} has scores, and which of them are kept is in none of the files: write the final_threshold that the "
            "model was trained with into config.json, or let the tool's own bertarize.py write the masked weights"
        )
    lost = unlike(stems, (n.removesuffix(".weight") for n in checkpoint.state if n.endswith(".weight")))
    if lost is not None:
        raise SourceError(
            f"{place}: {lost}.weight has no mask_scores beside it, as the same layer of other blocks has: download it again"
        )
    for stem in stems:
        scores = checkpoint.state.get(f"{stem}.mask_scores")
        if scores is not None and scores.shape != checkpoint.state[f"{stem}.weight"].shape:
            raise SourceError(
                f"{place}: {stem}.mask_scores is {list(scores.shape)}, and {stem}.weight "
                f"{list(checkpoint.state[f'{stem}.weight'].shape)}: download it again"
            )


def _masked(checkpoint: Checkpoint, stem: str, method: str, threshold: float | None) -> StoredTensor:
    weight, scores = checkpoint.state[f"{stem}.weight"], checkpoint.state.get(f"{stem}.mask_scores")
    if scores is None:
        return weight.computed(lambda given: given * mask_of(method, given, threshold))
    return weight.computed(lambda given: given * mask_of(method, scores.read(), threshold))
