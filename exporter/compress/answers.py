"""Read a model's answers to batches of texts: rows without padding, and the text that each belongs to."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Literal

import numpy as np


@dataclass(frozen=True)
class Rows:
    """One output for a batch. `values [rows, columns]`; `owners`: the number of each row's text, ascending, int64 `[rows]`.

    `kind`: a row is a text's, a token's, or the position that a text's logits choose (`span`, one column).
    """

    kind: Literal["text", "token", "span"]
    values: np.ndarray
    owners: np.ndarray

    def per_text(self, figures: np.ndarray, texts: int) -> np.ndarray:
        """Return the sum of a figure of each row, `[rows]`, for each of `texts` texts."""
        return np.bincount(self.owners, figures, texts)

    def of(self, texts: np.ndarray) -> "Rows":
        """Return the rows of some texts, by their numbers."""
        chosen = np.isin(self.owners, texts)
        return Rows(self.kind, self.values[chosen], self.owners[chosen])


def read_rows(name: str, value: np.ndarray, mask: np.ndarray, first: int) -> Rows:
    """Return the rows of an output for texts from number `first` on; `mask [texts, sequence]` tells tokens from padding."""
    mask, texts = mask.astype(bool), np.arange(first, first + len(mask))
    if value.shape == mask.shape and name.endswith("_logits"):
        return Rows("span", np.where(mask, value, -np.inf).argmax(axis=1)[:, None], texts)
    if value.ndim > mask.ndim and value.shape[: mask.ndim] == mask.shape:
        tokens = value[mask]
        return Rows("token", tokens.reshape(len(tokens), -1), texts[np.nonzero(mask)[0]])
    return Rows("text", np.array(value).reshape(len(value), -1), texts)  # a copy: a runner may use its arrays again


def matched(wanted: Rows, given: Rows) -> tuple[Rows, Rows]:
    """Return the rows of those texts that have as many in both: a trimmed vocabulary cuts some texts into other tokens."""
    if np.array_equal(wanted.owners, given.owners):
        return wanted, given
    counts = [dict(zip(*np.unique(rows.owners, return_counts=True), strict=True)) for rows in (wanted, given)]
    same = np.array([text for text, count in counts[0].items() if counts[1].get(text) == count], np.int64)
    return wanted.of(same), given.of(same)


def joined(batches: Sequence[Rows]) -> np.ndarray:
    """Return the values of all batches, `[rows, columns]`."""
    return np.concatenate([rows.values for rows in batches])


def passed_through(name: str, outputs: Mapping[str, np.ndarray], feeds: Mapping[str, np.ndarray]) -> bool:
    """Return whether an output is but one of the inputs."""
    value = outputs[name]
    return any(value.shape == array.shape and np.array_equal(value, array) for array in feeds.values())
