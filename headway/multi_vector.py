"""Read texts for late interaction, as ColBERT does: a vector for each token that counts, compared token by token."""

from collections.abc import Mapping, Sequence

import numpy as np

from .errors import UsageError
from .manifest import Side

_NOTHING = -1e9
"""The score of a document without a vector: below that of any other, as in sentence-transformers."""


def side_feeds(batch: Mapping[str, np.ndarray], side: Side) -> tuple[dict[str, np.ndarray], np.ndarray]:
    """Return a batch as a side reads it, int64 `[batch, sequence]` by name, and which of its tokens give a vector.

    A side that expands texts fills them up to a length with one token, which gives vectors, too; whether the others attend to it
    depends on the side. Tokens that it skips give none.
    """
    feeds = dict(batch)
    scored = feeds["attention_mask"].astype(bool)
    if side.expansion_id is not None:
        missing = max(0, side.expansion_length - scored.shape[1])
        feeds = {name: np.pad(array, ((0, 0), (0, missing))) for name, array in feeds.items()}
        places = (feeds["attention_mask"] == 0) & (np.arange(scored.shape[1] + missing) < side.expansion_length)
        feeds["input_ids"] = np.where(places, side.expansion_id, feeds["input_ids"])
        scored = feeds["attention_mask"].astype(bool) | places
        if side.attended:
            feeds["attention_mask"] = np.where(places, 1, feeds["attention_mask"])
    scored &= ~np.isin(feeds["input_ids"], side.skipped)
    if side.only:
        scored &= np.isin(feeds["input_ids"], side.only)
    return feeds, scored


Vectors = np.ndarray | Sequence[np.ndarray]
"""The vectors of each of several texts, or those of one."""


def maxsim(queries: Vectors, documents: Vectors, *, mean: bool = False) -> np.ndarray:
    """Return the score of each document for each query, float32 `[queries, documents]`; vectors are `[tokens, dimensions]`.

    Each vector of a query counts by its largest dot product with one of the document; the score is their sum, or with `mean` their
    mean. A document without vectors scores -1e9. UsageError where these are no vectors of one width.
    """
    asked, given = ([np.asarray(v) for v in _listed(side)] for side in (queries, documents))
    widths = {v.shape[-1] if v.ndim == 2 else None for v in (*asked, *given)}
    if None in widths or len(widths) > 1:
        raise UsageError("vectors [tokens, dimensions] of one width are expected for each query and each document")
    scores = np.zeros((len(asked), len(given)), np.float32)
    for column, document in enumerate(given):
        for row, query in enumerate(asked):
            total = float((query @ document.T).max(axis=1).sum()) if len(document) else _NOTHING
            scores[row, column] = total / max(len(query), 1) if mean else total
    return scores


def _listed(vectors: Vectors) -> list[np.ndarray]:
    """Return vectors as a list of texts; those of a single text are one."""
    return [vectors] if isinstance(vectors, np.ndarray) and vectors.ndim == 2 else list(vectors)
