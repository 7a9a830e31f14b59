"""Define what every runner offers, and split batches of mixed lengths."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Protocol

import numpy as np

from ..errors import UsageError

GROUP_COST = 16
"""Cost of one more run, in tokens of work. Where splitting a batch by length saves less, it gains nothing."""


@dataclass(frozen=True)
class Limits:
    """What a batch may hold: ids below `vocabulary`, where it is known, and rows without a token or not."""

    vocabulary: int | None = None
    empty_rows: bool = True


class Runner(Protocol):
    """An opened artifact. Inputs and outputs are numpy arrays by name."""

    input_names: tuple[str, ...]
    output_names: tuple[str, ...]
    limits: Limits
    """What is refused; nothing until a bundle says it."""

    def run(self, feeds: Mapping[str, np.ndarray]) -> dict[str, np.ndarray]:
        """Run a batch: inputs int64 `[batch, sequence]`, outputs float32."""
        ...


_IDS, _MASK, _TYPES = "input_ids", "attention_mask", "token_type_ids"
NO_TOKEN = "there is no token, and this artifact's answer to that is not known to be its source's; leave it out"
_FILLED = {_MASK: 1, _TYPES: 0}
"""What an input holds that is left out: every token is one of a text, and of the first text."""


def prepared(
    feeds: Mapping[str, np.ndarray],
    names: Sequence[str],
    limits: Limits = Limits(),
    dtypes: Mapping[str, np.dtype] | None = None,
) -> dict[str, np.ndarray]:
    """Return the inputs `names` of a batch, as int64 or the `dtypes` given; mask and token types may be missing.

    UsageError for other inputs that are missing, shapes that differ, ids that the model has no embedding for (a runtime would
    wrap negative ones around, or read beyond the table), and rows without a token where `limits` has none.
    """
    ids = np.asarray(feeds[_IDS]) if _IDS in feeds else None
    arrays = {}
    for name in names:
        if name in feeds:
            array = np.asarray(feeds[name])
        elif name in _FILLED and ids is not None:
            array = np.full(ids.shape, _FILLED[name], np.int64)
        else:
            raise UsageError(f"the input {name} is missing; given were {', '.join(feeds) or 'none'}")
        if name in (_IDS, *_FILLED):
            if array.dtype.kind not in "iub":
                raise UsageError(f"{name} is {array.dtype}; give integers")
            if ids is not None and array.shape != ids.shape:
                raise UsageError(f"{name} has the shape {list(array.shape)}, and {_IDS} {list(ids.shape)}")
            array = array.astype((dtypes or {}).get(name, np.dtype(np.int64)), copy=False)
        arrays[name] = array
    if ids is not None and _IDS in arrays and ids.size:
        _check_ids(ids, limits.vocabulary)
    mask = arrays.get(_MASK, np.asarray(feeds[_MASK]) if _MASK in feeds else None)
    if mask is not None and not limits.empty_rows:
        empty = np.argwhere(~mask.any(axis=-1))
        if len(empty):
            raise UsageError(f"{_MASK}, row {', '.join(map(str, empty[0]))}: {NO_TOKEN}")
    return arrays


def _check_ids(ids: np.ndarray, vocabulary: int | None) -> None:
    lowest, highest = int(ids.min()), int(ids.max())
    if lowest < 0:
        raise UsageError(f"{_IDS} holds {lowest}; ids of tokens are not negative")
    if vocabulary is not None and highest >= vocabulary:
        raise UsageError(f"{_IDS} holds {highest}, and this model has embeddings for the ids 0 to {vocabulary - 1}")


def put_rows(
    results: dict[str, np.ndarray],
    name: str,
    array: np.ndarray,
    rows: np.ndarray,
    shape: tuple[int, ...],
    axis: int | None,
) -> None:
    """Put the outputs of a part of a batch into its `rows` of the results for a batch of `shape` [batch, sequence].

    `axis` is the output's sequence axis, None where it has none. Padding is zeros.
    """
    if name not in results:
        full_shape = [shape[0], *array.shape[1:]]
        if axis is not None:
            full_shape[axis] = shape[1]
        results[name] = np.zeros(full_shape, array.dtype)
    if axis is None:
        results[name][rows] = array
    else:
        results[name][rows, : array.shape[1]] = array


def real_lengths(mask: np.ndarray) -> np.ndarray:
    """Return the position of the last real token of each row, plus one: int64 `[batch]`."""
    reversed_first = np.argmax(mask[:, ::-1] != 0, axis=1)
    return np.where(mask.any(axis=1), mask.shape[1] - reversed_first, 1)


def check_mask(mask: np.ndarray) -> None:
    """Raise UsageError where a row of a mask `[batch, sequence]` has padding before its last token.

    Kernels that take the length of each row cannot skip padding before it.
    """
    short = np.flatnonzero(mask.any(axis=1) & ((mask != 0).sum(axis=1) < real_lengths(mask)))
    if short.size:
        raise UsageError(
            f"attention_mask, row {short[0]}: padding stands before a token; this bundle's kernels take padding after the text "
            "only: pad on the right, or export with `kernels: stock` (--kernels stock)"
        )


def group_by_length(lengths: np.ndarray, cost: int = GROUP_COST) -> list[np.ndarray]:
    """Split rows into the groups that are cheapest to run, each padded to its own longest.

    Minimizes `sum(rows * longest + cost)` over groups, exactly, by dynamic programming over the sorted lengths.
    Returns arrays of row numbers.
    """
    order = np.argsort(lengths, kind="stable")
    ordered = lengths[order].astype(np.int64)
    # Groups can only end where the length changes. So the work is bounded by the longest length, not by the batch.
    ends = np.flatnonzero(np.append(ordered[1:] != ordered[:-1], True)) + 1
    starts = np.concatenate([[0], ends])
    best = np.zeros(len(ends) + 1, np.int64)
    previous = np.zeros(len(ends) + 1, np.int64)
    for i, end in enumerate(ends, start=1):
        totals = best[:i] + (end - starts[:i]) * ordered[end - 1] + cost
        previous[i] = int(np.argmin(totals))
        best[i] = totals[previous[i]]
    groups = []
    i = len(ends)
    while i:
        groups.append(order[starts[previous[i]] : starts[i]])
        i = int(previous[i])
    return groups[::-1]
