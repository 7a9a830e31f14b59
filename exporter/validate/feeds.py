"""Make a batch of texts for a bundle, whatever its task."""

from collections.abc import Sequence
from typing import Any


def feeds_of(bundle: Any, texts: Sequence[str]) -> dict[str, Any]:
    """Return the inputs of a batch of texts; of a model with choices, of a question that has each text as an option."""
    batch = bundle.encoder(texts if bundle.manifest.task != "multiple-choice" else list(texts) * 2)
    if bundle.manifest.task == "multiple-choice":
        return {name: array[None] for name, array in batch.items()}
    return dict(batch)
