"""Decide how the logits of a source are read, from its config and from what sentence-transformers wrote beside it."""

from collections.abc import Mapping
from typing import Any

from ...errors import SourceError
from ...json_file import read_json
from ...tasks import Activation, Scoring
from .sentence_modules import MODEL_CONFIG
from .source import Source

TASK = "text-classification"

_ACTIVATIONS: dict[str, Activation] = {
    "Sigmoid": "sigmoid",
    "Identity": "identity",
    "Tanh": "tanh",
    "Softmax": "softmax",
}
"""By the name of the class in torch."""


def scoring_of(source: Source, columns: int | None = None) -> Scoring | None:
    """Return how `columns` logits of a source are read; None for other tasks. Without `columns`, the config's labels count.

    Raises SourceError naming an activation that is not known.
    """
    if source.task != TASK:
        return None
    width = columns if columns is not None else len(label_names(source.config))
    return Scoring.decide(width, source.config.get("problem_type"), _activation(source))


def label_names(config: Mapping[str, Any]) -> list[str]:
    """Return the labels of a config in the order of the logits. One that names none has as many as it says, or two."""
    named = config.get("id2label")
    if isinstance(named, Mapping) and named:
        return [str(named[key]) for key in sorted(named, key=int)]
    return [f"LABEL_{i}" for i in range(int(config.get("num_labels") or 2))]


def _activation(source: Source) -> Activation | None:
    """Return the activation that a cross-encoder's config names, in any of the places that its versions wrote it to."""
    config = source.config
    settings = config.get("sentence_transformers")
    beside: dict[str, Any] = {}
    if source.directory is not None and (source.directory / MODEL_CONFIG).is_file():
        beside = read_json(source.directory / MODEL_CONFIG)
    named = (
        (settings.get("activation_fn") if isinstance(settings, Mapping) else None)
        or config.get("sbert_ce_default_activation_function")
        or beside.get("activation_fn")
    )
    if named is None:
        return None
    activation = _ACTIVATIONS.get(str(named).rpartition(".")[2])
    if activation is None or not str(named).startswith("torch."):
        raise SourceError(
            f"{source.spec}: the cross-encoder's activation {named} is not known; known are {', '.join(_ACTIVATIONS)} of torch.nn. "
            "Name one of them as activation_fn in its config, and apply your own to the logits"
        )
    return activation
