"""Divide the text into what the passes learn from and what judges them."""

from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np

from ...calibration.batches import Batch, check_known
from ...text import TextEncoder
from ..recipe.recipe import Calibration
from ..source.scoring import label_names

MOST_TOKENS = 32_768
"""Calibration data beyond this many tokens changes nothing and takes time."""

_HELD_OUT = 256
FEW_TEXTS = 10
"""Below so many texts none are held out: all serve both to learn and to judge."""


def class_names(config: Mapping[str, Any]) -> dict[str, int]:
    """Return the classes of a text classifier by name. A config that names none has as many as it says, or two."""
    if not any(str(a).endswith("ForSequenceClassification") for a in config.get("architectures") or []):
        return {}
    named = config.get("id2label") or dict(enumerate(label_names(config)))
    return {str(name): int(number) for number, name in named.items()}


def divide(count: int, settings: Calibration) -> tuple[np.ndarray, np.ndarray]:
    """Return the texts to learn from and those to judge by: a fifth, at most 256, are held out. Of very few, all serve both."""
    order = np.random.default_rng(settings.seed).permutation(count)
    if count < FEW_TEXTS:
        return order, order
    held = min(_HELD_OUT, count // 5)
    return order[held:][: settings.samples], order[:held]


def check_text(encoder: TextEncoder, batches: Sequence[Batch]) -> None:
    """Raise UsageError where hardly anything of the text becomes a known token."""
    tokenizer = encoder.tokenizer
    special = [i for i, t in tokenizer.get_added_tokens_decoder().items() if t.special]
    unknown = next((tokenizer.token_to_id(t) for t in ("[UNK]", "<unk>") if tokenizer.token_to_id(t) is not None), None)
    check_known(batches, special, unknown)
