"""Embed texts, compare embeddings, and order texts by how well they answer a query."""

from collections.abc import Sequence
from functools import cached_property
from typing import Any, Literal

import numpy as np

from .embeddings import (
    SIDES,
    SIMILARITIES,
    Ranked,
    Sparse,
    compared,
    prompt_for,
    ranked,
    shortened,
    side_prompt,
    sparse_rows,
)
from .errors import SourceError, UsageError
from .manifest import logit_columns
from .multi_vector import maxsim, side_feeds
from .tasks import Scoring
from .text import checked_singles
from .text_model import TextModel

Embeddings = np.ndarray | list[np.ndarray]
"""Rows of embeddings, or the vectors of each text."""

_EMBEDDING = tuple(SIMILARITIES)
_ROWS = ("sentence-embedding", "sparse-embedding")


class Retrieval(TextModel):
    """What search needs of a bundle: embeddings, and scores of texts for a query."""

    def encode(
        self,
        texts: Sequence[str],
        *,
        prompt_name: str | None = None,
        prompt: str | None = None,
        truncate_dim: int | None = None,
        normalize: bool = False,
        batch_size: int = 32,
        max_length: int | None = None,
    ) -> np.ndarray:
        """Return the embeddings of texts, float32 `[texts, dimensions]`, as sentence-transformers' `encode` does.

        For sentence-embedding and sparse-embedding, whose rows are mostly zeros: see `sparse`. `prompt` is put in front of each text;
        `prompt_name` takes one of the manifest's `prompts`. `truncate_dim` keeps the first dimensions alone, and `normalize` then
        scales to length 1. UsageError names an unknown prompt, too many dimensions, or sparse embeddings that would be shortened.
        """
        self._expect(*_ROWS)
        if truncate_dim is not None and self.manifest.task == "sparse-embedding":
            raise UsageError(f"{self.path}: dimensions of a sparse embedding are tokens; leave truncate_dim out")
        front = prompt_for(self.manifest.prompts, prompt_name, prompt)
        encodings, _ = self._encode([front + text for text in checked_singles(texts)], max_length)
        embeddings = self._outputs(encodings, batch_size)["sentence_embedding"]
        return shortened(embeddings, truncate_dim, normalize=normalize)

    def encode_query(self, texts: Sequence[str], **options: Any) -> Embeddings:
        """Return the embeddings of queries: `encode` with the prompt called `query`, where there is one and `options` name none.

        For multi-vector, a list of vectors float32 `[tokens, dimensions]`, one entry for each text; `options` are then those of
        `vectors`. UsageError for a bundle that is the route of documents alone.
        """
        return self._encode_side("query", texts, options)

    def encode_document(self, texts: Sequence[str], **options: Any) -> Embeddings:
        """Return the embeddings of documents: `encode` with the prompt `document`, `passage` or `corpus`, the first that there is.

        For multi-vector, a list of vectors as `encode_query` gives. UsageError for a bundle that is the route of queries alone.
        """
        return self._encode_side("document", texts, options)

    def vectors(
        self,
        texts: Sequence[str],
        side: Literal["query", "document"],
        *,
        prompt_name: str | None = None,
        prompt: str | None = None,
        batch_size: int = 32,
    ) -> list[np.ndarray]:
        """Return the vectors of each text's tokens, float32 `[tokens, dimensions]` (multi-vector), as sentence-transformers does.

        `side` says whether texts are queries or documents: each has its own prompt, unless another is given, its own most tokens, and
        tokens without a vector. UsageError names an unknown prompt or side.
        """
        self._expect("multi-vector")
        if side not in self.manifest.sides:
            raise UsageError(f"side is {side!r}; give query or document")
        if batch_size < 1:
            raise UsageError(f"batch_size is {batch_size}; give at least 1")
        reading, prompts = self.manifest.sides[side], self.manifest.prompts
        own = prompt is None and prompt_name is None
        front = side_prompt(prompts, side) if own else prompt_for(prompts, prompt_name, prompt)
        encodings, _ = self._encode([front + text for text in checked_singles(texts)], reading.max_length)
        order = np.argsort([len(e.ids) for e in encodings], kind="stable")
        found: list[np.ndarray] = [np.zeros(0)] * len(encodings)
        for start in range(0, len(order), batch_size):
            rows = order[start : start + batch_size]
            feeds, scored = side_feeds(self.encoder.batch([encodings[i] for i in rows]), reading)
            for row, tokens, counted in zip(rows, self.runner.run(feeds)["token_embeddings"], scored, strict=True):
                found[row] = tokens[counted]
        return found

    def _encode_side(self, side: Literal["query", "document"], texts: Sequence[str], options: Any) -> Embeddings:
        """Return what queries or documents are encoded to."""
        self._expect(*_EMBEDDING)
        if self.manifest.task == "multi-vector":
            return self.vectors(texts, side, **options)
        return self.encode(texts, **self._for_side(side, options))

    def _for_side(self, side: str, options: dict[str, Any]) -> dict[str, Any]:
        """Return the options of `encode` for queries or documents."""
        route = self.manifest.route
        if route in SIDES and route != side:
            raise UsageError(
                f"{self.path}: the route {route!r} of a Router; the bundle of the route {side!r} encodes these texts"
            )
        if options.get("prompt") is None and options.get("prompt_name") is None:
            return {**options, "prompt": side_prompt(self.manifest.prompts, side)}
        return options

    def sparse(
        self,
        texts: Sequence[str],
        *,
        prompt_name: str | None = None,
        prompt: str | None = None,
        batch_size: int = 32,
        max_length: int | None = None,
    ) -> list[Sparse]:
        """Return the dimensions of each text's embedding that are not zero, and their weights (sparse-embedding).

        Prompts are those of `encode`. The score of two texts is the sum of products over dimensions that both have.
        """
        self._expect("sparse-embedding")
        front = prompt_for(self.manifest.prompts, prompt_name, prompt)
        encodings, cuts = self._encode([front + text for text in checked_singles(texts)], max_length)
        return sparse_rows(self._outputs(encodings, batch_size)["sentence_embedding"], cuts)

    def similarity(self, a: Embeddings, b: Embeddings) -> np.ndarray:
        """Return how alike each embedding of `a` is to each of `b`, float32 `[a, b]`, larger for more alike.

        The function is the one that the model names: cosine, dot product, a distance with its sign changed, or MaxSim, for which `a`
        are queries and `b` documents. One embedding counts as one row. UsageError where widths differ.
        """
        self._expect(*_EMBEDDING)
        known = SIMILARITIES[self.manifest.task]
        function = self.manifest.similarity or known[0]
        if function not in known:
            raise SourceError(
                f"{self.path}: this Headway does not know the similarity {function!r}: install a newer one"
            )
        if self.manifest.task == "multi-vector":
            return maxsim(a, b, mean=function == "meanmaxsim")
        return compared(np.asarray(a), np.asarray(b), function)

    def rank(
        self,
        query: str,
        texts: Sequence[str],
        *,
        top_k: int | None = None,
        batch_size: int = 32,
        max_length: int | None = None,
    ) -> list[Ranked]:
        """Return texts by how well they answer `query`, the best first, at most `top_k`.

        Each has its `index` among `texts`, its `score` and the `text`. The score is a cross-encoder's, with the activation of its
        config, or the `similarity` of `encode_query` and `encode_document`. UsageError for a classifier with several scores.
        """
        self._expect("text-classification", *_EMBEDDING)
        checked = checked_singles(texts)
        if top_k is not None and top_k < 1:
            raise UsageError(f"top_k is {top_k}; give at least 1")
        if self.manifest.task in _EMBEDDING:
            (asked,) = checked_singles([query])
            limits: dict[str, Any] = {"batch_size": batch_size}
            if self.manifest.task != "multi-vector":
                limits["max_length"] = max_length
            elif max_length is not None:
                raise UsageError(f"{self.path}: queries and documents have limits of their own; leave max_length out")
            found = self.encode_document(checked, **limits)
            return ranked(checked, self.similarity(self.encode_query([asked], **limits), found)[0], top_k)
        columns = logit_columns(self.manifest.outputs)
        if columns != 1:
            raise UsageError(f"{self.path}: a text has {columns} scores; a ranking needs a model that gives one")
        if not checked:
            return []
        encodings, _ = self._encode([(query, text) for text in checked], max_length)
        return ranked(checked, self._scores(encodings, batch_size)[:, 0], top_k)

    @cached_property
    def scoring(self) -> Scoring:
        """How logits become scores (text-classification). SourceError where this Headway does not know the way."""
        columns = logit_columns(self.manifest.outputs)
        try:
            return Scoring.of(self.manifest.scoring, columns or max(len(self.manifest.labels), 1))
        except ValueError as error:
            raise SourceError(f"{self.path}: this Headway does not know the {error}: install a newer one") from error

    def _scores(self, encodings: Sequence[Any], batch_size: int) -> np.ndarray:
        """Return scores `[texts, labels]`."""
        return self.scoring.scores(self._outputs(encodings, batch_size)["logits"])
