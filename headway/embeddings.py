"""Put prompts in front of texts, shorten sentence embeddings, and order texts by their scores, as sentence-transformers does."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass

import numpy as np

from .errors import UsageError


@dataclass(frozen=True)
class Ranked:
    """One text of a ranking: its index among those given, its score, and the text."""

    index: int
    score: float
    text: str


def prompt_for(prompts: Mapping[str, str], name: str | None, prompt: str | None) -> str:
    """Return what to put in front of texts: `prompt` itself, or the one called `name`. UsageError where there is none of that name."""
    if prompt is not None:
        return prompt
    if name is None:
        return ""
    if name not in prompts:
        known = ", ".join(sorted(prompts)) or "none"
        raise UsageError(f"there is no prompt {name!r}; the bundle has: {known}")
    return prompts[name]


def shortened(embeddings: np.ndarray, dimensions: int | None, *, normalize: bool) -> np.ndarray:
    """Return the first `dimensions` of embeddings float32 `[texts, width]`, scaled to length 1 afterwards where `normalize`."""
    if dimensions is not None:
        if not 1 <= dimensions <= embeddings.shape[-1]:
            raise UsageError(f"truncate_dim is {dimensions}; an embedding has {embeddings.shape[-1]} dimensions")
        embeddings = embeddings[..., :dimensions]
    if not normalize:
        return embeddings
    lengths = np.linalg.norm(embeddings, axis=-1, keepdims=True)
    return embeddings / np.maximum(lengths, np.float32(1e-12))


def ranked(texts: Sequence[str], scores: np.ndarray, count: int | None) -> list[Ranked]:
    """Return texts by their scores `[texts]`, the largest first, at most `count`; equal ones in the order given."""
    order = np.argsort(-scores, kind="stable")[:count]
    return [Ranked(int(i), float(scores[i]), texts[i]) for i in order]
