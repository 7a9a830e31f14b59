"""Run batches of arrays through the queue: what any call of a bundle, and any raw tensors, become there."""

import threading
from collections.abc import Callable, Mapping

import numpy as np

from ..runners.base import Runner, prepared, real_lengths
from .token_queue import TokenRow, Waiting

_IDS, _MASK, _TYPES = "input_ids", "attention_mask", "token_type_ids"


class QueuedRunner:
    """A runner whose rows wait in a queue beside those of other requests. `add` queues a request, as `Lanes.add` does."""

    def __init__(self, runner: Runner, add: Callable[[Waiting], None], per_token: frozenset[str], timeout: float):
        self.input_names = runner.input_names
        self.output_names = runner.output_names
        self.limits = runner.limits
        self._add = add
        self._per_token = per_token
        self._timeout = timeout

    def run(self, feeds: Mapping[str, np.ndarray]) -> dict[str, np.ndarray]:
        """Run a batch: inputs int64 `[batch, sequence]`, outputs float32. Waits for its turn; TimeoutError where that takes too long."""
        done = threading.Event()
        waiting = self.request(feeds, lambda _: done.set())
        self._add(waiting)
        if not done.wait(self._timeout):
            waiting.dropped = True
            raise TimeoutError
        return self.outputs(waiting, np.shape(feeds[_IDS]))

    def request(self, feeds: Mapping[str, np.ndarray], done: Callable[[Waiting], None]) -> Waiting:
        """Return a batch as a request. UsageError where its arrays do not fit the model.

        Rows with padding after the text alone are queued one by one. Other batches, and rows of several texts, run as they are.
        """
        arrays = prepared(feeds, self.input_names, self.limits)
        ids = arrays[_IDS]
        mask = arrays.get(_MASK, np.asarray(feeds[_MASK]) if _MASK in feeds else np.ones_like(ids))
        types = arrays.get(_TYPES, np.zeros_like(ids))
        if ids.ndim == 2 and ids.size and (mask.sum(axis=1) == real_lengths(mask)).all():
            lengths = mask.sum(axis=1)
            rows = [TokenRow(ids[i, :n].tolist(), types[i, :n].tolist()) for i, n in enumerate(lengths)]
            return Waiting(rows, done)
        flat = ids.reshape(-1, ids.shape[-1]).tolist()
        return Waiting([TokenRow(row, row) for row in flat], done, arrays | {_MASK: mask})

    def outputs(self, waiting: Waiting, shape: tuple[int, ...]) -> dict[str, np.ndarray]:
        """Return the outputs of a batch of `shape`, padded with zeros. Raises the error that the batch ended with."""
        if waiting.error is not None:
            raise waiting.error
        if waiting.feeds is not None:
            return waiting.results[0]
        arrays = {}
        for name in self.output_names:
            rows = [result[name] for result in waiting.results]
            if name in self._per_token:
                array = np.zeros((len(rows), shape[1], *rows[0].shape[1:]), rows[0].dtype)
                for i, row in enumerate(rows):
                    array[i, : len(row)] = row
                arrays[name] = array
            else:
                arrays[name] = np.stack(rows)
        return arrays
