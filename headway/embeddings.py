"""Put prompts in front of texts, shorten and compare embeddings, and order texts by scores, as sentence-transformers does."""

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass

import numpy as np

from .errors import UsageError


@dataclass(frozen=True)
class Ranked:
    """One text of a ranking: its index among those given, its score, and the text."""

    index: int
    score: float
    text: str


@dataclass(frozen=True)
class Sparse:
    """A sparse embedding of one text: the dimensions that are not zero, int64 ascending, and their weights, float32.

    A dimension of SPLADE is the id of a token. `truncated`: only the beginning of the text was read.
    """

    indices: np.ndarray
    weights: np.ndarray
    truncated: bool = False


_QUERY_PROMPTS, _DOCUMENT_PROMPTS = ("query",), ("document", "passage", "corpus")
"""Names of the prompts for queries and for documents, of which the first that a model has is taken."""

SIDES = ("query", "document")
"""What a text may be in a search."""


def prompt_for(prompts: Mapping[str, str], name: str | None, prompt: str | None) -> str:
    """Return what to put in front of texts: `prompt` itself, or the one called `name`. UsageError where there is none of that name."""
    if prompt is not None:
        return prompt
    if name is None:
        return ""
    if name in SIDES and name not in prompts:  # which sentence-transformers always has, empty where nothing is said
        return ""
    if name not in prompts:
        known = ", ".join(sorted(prompts)) or "none"
        raise UsageError(f"there is no prompt {name!r}; the bundle has: {known}")
    return prompts[name]


def side_prompt(prompts: Mapping[str, str], side: str) -> str:
    """Return what is put in front of a `query` or a `document`, as sentence-transformers chooses it; nothing where there is no prompt."""
    names = _QUERY_PROMPTS if side == "query" else _DOCUMENT_PROMPTS
    return next((prompts[name] for name in names if name in prompts), "")


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


def sparse_rows(embeddings: np.ndarray, cuts: Sequence[bool]) -> list[Sparse]:
    """Return each row of embeddings float32 `[texts, dimensions]` without its zeros. `cuts` says which texts were cut."""
    rows = [np.flatnonzero(row) for row in embeddings]
    return [Sparse(at, row[at], cut) for at, row, cut in zip(rows, embeddings, cuts, strict=True)]


def compared(a: np.ndarray, b: np.ndarray, function: str) -> np.ndarray:
    """Return the similarity of each row of `a [n, width]` to each of `b [m, width]`, float32 `[n, m]`; larger is more alike.

    `function` is `cosine`, `dot`, `euclidean` or `manhattan`; distances are negative, as in sentence-transformers. Sums are in float64.
    UsageError where widths differ, or where these are no rows.
    """
    try:
        a, b = (np.atleast_2d(np.asarray(x, np.float64)) for x in (a, b))
    except (TypeError, ValueError) as error:
        raise UsageError("embeddings are rows of numbers, as encode gives them") from error
    if a.ndim != 2 or b.ndim != 2 or a.shape[1] != b.shape[1]:
        raise UsageError(
            f"embeddings of shapes {list(a.shape)} and {list(b.shape)} cannot be compared; give rows of one width"
        )
    return _SIMILARITIES[function](a, b).astype(np.float32)


def _cosine(a: np.ndarray, b: np.ndarray) -> np.ndarray:
    a, b = (x / np.maximum(np.linalg.norm(x, axis=1, keepdims=True), 1e-12) for x in (a, b))
    return np.asarray(a @ b.T)


def _dot(a: np.ndarray, b: np.ndarray) -> np.ndarray:
    return np.asarray(a @ b.T)


def _euclidean(a: np.ndarray, b: np.ndarray) -> np.ndarray:
    squares = (a * a).sum(axis=1)[:, None] - 2 * (a @ b.T) + (b * b).sum(axis=1)[None, :]
    return -np.sqrt(np.maximum(squares, 0))


def _manhattan(a: np.ndarray, b: np.ndarray) -> np.ndarray:
    return np.stack([-np.abs(b - row).sum(axis=1) for row in a]) if len(a) else np.zeros((0, len(b)))


_SIMILARITIES: Mapping[str, Callable[[np.ndarray, np.ndarray], np.ndarray]] = {
    "cosine": _cosine,
    "dot": _dot,
    "euclidean": _euclidean,
    "manhattan": _manhattan,
}

SIMILARITIES: Mapping[str, tuple[str, ...]] = {
    "sentence-embedding": ("cosine", "dot", "euclidean", "manhattan"),
    "sparse-embedding": ("dot", "cosine", "euclidean", "manhattan"),
    "multi-vector": ("maxsim", "meanmaxsim"),
}
"""The functions that compare embeddings, by task; the first is taken where a model names none."""
