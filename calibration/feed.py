"""Take batches apart into texts without padding, group texts of similar length, and pick their rows out of activations."""

import threading
from collections.abc import Callable, Iterable, Iterator, Mapping
from dataclasses import dataclass

import numpy as np

from ..errors import UsageError
from .batches import Batch, spans

_WINDOW = 128
"""Texts that are sorted by length before they are run."""
_TOKENS = 128
"""Tokens in one run, padding included; longer texts run alone. More is no faster and takes more memory."""

Feeds = Mapping[str, np.ndarray]
"""int64 `[texts, sequence]` by input name."""


@dataclass(frozen=True)
class TokenizedText:
    """One text without padding: int64 `[tokens]` by input name, and its index among all texts."""

    feeds: dict[str, np.ndarray]
    row: int

    def __len__(self) -> int:
        return len(self.feeds["attention_mask"])


class Feed:
    """Hands out the texts of the batches in windows, to any number of workers."""

    def __init__(self, batches: Iterable[Batch | Feeds]):
        self._batches = iter(batches)
        self._lock = threading.Lock()
        self._texts: list[TokenizedText] = []
        self._count = 0
        self._stopped = False

    def next(self, on_batch: Callable[[], None]) -> list[TokenizedText] | None:
        """Return the next window of texts; None when there are no more. `on_batch` is called for each batch taken."""
        with self._lock:
            while len(self._texts) < _WINDOW and not self._stopped:
                batch = next(self._batches, None)
                if batch is None:
                    self._stopped = True
                    break
                self._texts += self._split(batch)
                on_batch()
            window, self._texts = self._texts[:_WINDOW], self._texts[_WINDOW:]
            return window or None

    def stop(self) -> None:
        """Hand out nothing more."""
        with self._lock:
            self._stopped, self._texts = True, []

    def _split(self, batch: Batch | Feeds) -> Iterator[TokenizedText]:
        feeds, rows = (batch.feeds, batch.rows) if isinstance(batch, Batch) else (batch, None)
        mask = np.asarray(feeds["attention_mask"]).astype(bool)
        if mask.ndim != 2:
            raise UsageError(
                "calibration takes batches [texts, sequence]; multiple-choice models are not calibrated yet"
            )
        if rows is None:
            rows = np.arange(self._count, self._count + len(mask))
        self._count += len(mask)
        for number, real, row in zip(range(len(mask)), mask, rows, strict=True):
            if real.any():
                yield TokenizedText({k: np.asarray(a)[number][real] for k, a in feeds.items()}, int(row))


def portions(window: list[TokenizedText]) -> Iterator[list[TokenizedText]]:
    """Yield groups of texts of similar length that take at most `_TOKENS` tokens with their padding, or one text each."""
    ordered = sorted(window, key=len)
    for span in spans([len(text) for text in ordered], _TOKENS):
        yield ordered[span]


def real_rows(array: np.ndarray, mask: np.ndarray, text: int | None = None) -> np.ndarray:
    """Return the rows of an activation that are no padding, `[rows, channels]`, of one text or of all.

    `mask` is bool `[texts, sequence]`. An activation has a row per token (`[texts, sequence, …]`, or tokens stored back to
    back) or a row per text. Raises UsageError for any other shape.
    """
    texts, length = mask.shape
    if array.ndim == 3 and array.shape[1] == 1 < length:
        array = array[:, 0]
    if array.ndim > 2 and array.shape[:2] == mask.shape:
        picked = array[text][mask[text]] if text is not None else array[mask] if not mask.all() else array
    elif array.ndim == 2 and len(array) == mask.size and length > 1:
        picked = array[mask.ravel()] if text is None else array.reshape(texts, length, -1)[text][mask[text]]
    elif array.ndim == 2 and len(array) == texts:
        picked = array if text is None else array[text : text + 1]
    else:
        raise UsageError(
            f"a value of shape {list(array.shape)} has neither tokens nor texts in front; it is not observed"
        )
    return picked.reshape(-1, array.shape[-1])
