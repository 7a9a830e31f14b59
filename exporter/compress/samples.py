"""Divide the text, once for all: what passes learn from, what they choose by, and what judges them."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np

from ...calibration.batches import Batch, check_known
from ...errors import UsageError
from ...text import TextEncoder
from ..recipe.recipe import Calibration
from ..source.scoring import label_names
from ..source.source import architectures

MOST_TOKENS = 32_768
"""Calibration data beyond this many tokens changes nothing and takes time."""

_HELD_OUT = 256
FEWEST_TEXTS = 10
"""Of fewer texts none could be held out, and nothing is judged on text that anything was learned from or chosen by."""


@dataclass(frozen=True)
class Split:
    """The texts by number, int64. No text is in two parts.

    `learn`: what calibration batches are made of. `more`: all that is neither held out nor in `learn`. `choose`: what passes that
    try and compare decide by; empty where none does. `judge`: what the figure of quality is measured on.
    """

    learn: np.ndarray
    more: np.ndarray
    choose: np.ndarray
    judge: np.ndarray


def class_names(config: Mapping[str, Any]) -> dict[str, int]:
    """Return the classes of a text classifier by name. A config that names none has as many as it says, or two."""
    if not any(name.endswith("ForSequenceClassification") for name in architectures(config)):
        return {}
    named = config.get("id2label") or dict(enumerate(label_names(config)))
    return {str(name): int(number) for number, name in named.items()}


def divide(count: int, settings: Calibration, *, choosing: bool = False) -> Split:
    """Divide texts: a fifth, at most 256, judges. Another such part chooses where a pass is `choosing`.

    Raises UsageError for fewer than 10 texts.
    """
    if count < FEWEST_TEXTS:
        raise UsageError(
            f"--data holds {count} texts; at least {FEWEST_TEXTS} are needed, since some are held out to judge by, and a few "
            "hundred are better"
        )
    order = np.random.default_rng(settings.seed).permutation(count)
    held = min(_HELD_OUT, count // 5)
    chosen = held if choosing else 0
    rest = order[held + chosen :]
    return Split(rest[: settings.samples], rest[settings.samples :], order[held : held + chosen], order[:held])


def check_text(encoder: TextEncoder, batches: Sequence[Batch]) -> None:
    """Raise UsageError where hardly anything of the text becomes a known token."""
    tokenizer = encoder.tokenizer
    special = [i for i, t in tokenizer.get_added_tokens_decoder().items() if t.special]
    unknown = next((tokenizer.token_to_id(t) for t in ("[UNK]", "<unk>") if tokenizer.token_to_id(t) is not None), None)
    check_known(batches, special, unknown)
