"""Open a bundle for a server: checked whole, measured, with a queue, and with the calls that the protocols need."""

import asyncio
import contextlib
import copy
import math
from collections.abc import Callable, Mapping, Sequence
from concurrent.futures import Executor
from pathlib import Path
from typing import Any, TypeVar

import numpy as np

from ..bundle import Bundle
from ..errors import UsageError
from ..manifest import Manifest, logit_columns
from ..text import Text
from .queued_runner import QueuedRunner
from .refusal import Refusal, invalid
from .server_settings import ServerSettings
from .speed_table import SpeedTable, measure_bundle
from .token_queue import Lanes, TokenQueue, Waiting, tell_each

EMBEDDING = "sentence_embedding"
_MOST_OUTPUT = 64 << 20
"""Bytes of a batch's outputs: those per token, as fill-mask has them, bound the batch."""

_SHORT = 1000
"""Characters that take less time to tokenize than to hand to a thread and back."""

Answer = TypeVar("Answer")


class OpenedBundle:
    """A bundle that was checked and measured, before any thread runs: processes that are forked from here share its memory."""

    def __init__(self, name: str, directory: Path, settings: ServerSettings):
        self.name = name
        self.directory = directory
        self.bundle = Bundle.open(directory, threads=1)
        self.bundle.check_files()  # the files that were not opened too
        manifest = self.bundle.manifest
        self.table = measure_bundle(self.bundle, settings.p99)
        per_token = sum(
            4 * math.prod(d for d in o.shape if isinstance(d, int)) for o in manifest.outputs if "sequence" in o.shape
        )
        self.budget = min(self.table.budget(settings.p99), max(1, _MOST_OUTPUT // max(per_token, 1)))
        self.wait = self.table.wait(settings.p99)

    @property
    def manifest(self) -> Manifest:
        return self.bundle.manifest

    @property
    def sha256(self) -> str:
        """Return the checksum of the artifact: which model this is."""
        return str(self.manifest.files[self.manifest.artifact]["sha256"])


def mixes_lengths(manifest: Manifest) -> bool:
    """Return whether texts of different lengths may share a batch without changing each other's answers, or padding the shorter.

    Headway's kernels compute no padding; other batches are split by length where the export found that padding changes nothing.
    """
    return bool(manifest.session_options.get("kernels") or manifest.session_options.get("regroup"))


class ServedBundle:
    """A bundle that answers requests of many clients. Its coroutines belong to one event loop.

    `threads` is where text is tokenized; `callers` are threads that wait for a call of the bundle as a whole.
    """

    def __init__(
        self,
        opened: OpenedBundle,
        settings: ServerSettings,
        lanes: Lanes,
        threads: Executor,
        callers: Executor,
        watch: Callable[[int, int, float], None] = lambda texts, tokens, seconds: None,
    ):
        self.name = opened.name
        self.opened = opened
        self.manifest = opened.manifest
        self.encoder = opened.bundle.encoder
        self._check_tokens = opened.bundle.check_tokens
        self.scoring = opened.bundle.scoring if opened.manifest.task == "text-classification" else None
        self._settings = settings
        self._lanes = lanes
        self._threads = threads
        self._callers = callers
        self._per_token = frozenset(o.name for o in self.manifest.outputs if "sequence" in o.shape)
        self.queue = TokenQueue(
            opened.bundle.runner,
            self.encoder.batch,
            opened.table,
            opened.budget,
            opened.wait,
            mixes_lengths(self.manifest),
            self._per_token,
            watch,
        )
        lanes.open_queue(self.queue)
        self.runner = QueuedRunner(opened.bundle.runner, self._add, self._per_token, settings.timeout)
        self._blocking = copy.copy(opened.bundle)
        self._blocking.runner = self.runner

    @property
    def gives_embeddings(self) -> bool:
        """Return whether it gives one vector for a text, whose dimensions are not tokens."""
        return any(o.name == EMBEDDING for o in self.manifest.outputs) and not self.gives_sparse

    @property
    def gives_sparse(self) -> bool:
        """Return whether it gives a weight for each token of its vocabulary."""
        return self.manifest.task == "sparse-embedding"

    @property
    def reranks(self) -> bool:
        """Return whether it gives one score for a pair of texts."""
        return self.scoring is not None and logit_columns(self.manifest.outputs) == 1

    @property
    def max_length(self) -> int:
        return self.manifest.tokenizer.max_length

    def label(self, index: int) -> str:
        return self.manifest.labels.get(str(index), f"LABEL_{index}")

    def expected_wait(self) -> float:
        """Return the seconds until a text that came now would begin to run."""
        return self._lanes.ahead()

    def _add(self, waiting: Waiting) -> None:
        self._lanes.add(self.queue, waiting, self._settings.p99)

    async def encode(self, texts: Sequence[Text], truncate: bool | None = None, name: str = "text") -> list[Any]:
        """Return the encodings of texts, made in a thread unless they are short.

        Refusal where one is too long, and not to be cut; and where the queue is full, before anything is done.
        """
        self._lanes.check(self.queue, self._settings.p99)
        try:
            short = sum(map(_characters, texts)) <= _SHORT
            encodings = self.encoder.encode(texts) if short else await _in(self._threads, self.encoder.encode, texts)
            self._check_tokens(encodings, name)
        except UsageError as error:
            raise invalid(str(error), 422) from error
        if not (self._settings.truncate if truncate is None else truncate):
            for i, encoding in enumerate(encodings):
                if self.encoder.truncated(encoding):
                    raise Refusal(
                        413,
                        f"{name} {i} has more than the {self.max_length} tokens that {self.name} reads: send a shorter one, or "
                        "`truncate: true` to have its beginning read",
                    )
        return list(encodings)

    async def run(self, encodings: Sequence[Any]) -> tuple[list[dict[str, np.ndarray]], Waiting]:
        """Return the outputs of each text by name, and the request with its times."""
        waiting = await self._finished(lambda done: Waiting(encodings, done))
        return waiting.results, waiting

    async def run_tensors(self, feeds: Mapping[str, np.ndarray]) -> tuple[dict[str, np.ndarray], Waiting]:
        """Return the outputs of a batch of arrays, padded with zeros. Refusal where they do not fit the model."""
        try:
            waiting = await self._finished(lambda done: self.runner.request(feeds, done))
        except UsageError as error:
            raise invalid(str(error)) from error
        return self.runner.outputs(waiting, np.shape(feeds["input_ids"])), waiting

    async def call(self, answer: Callable[[Bundle], Answer]) -> Answer:
        """Return what a method of the bundle answers, run in a thread: its batches wait in the queue like all others."""
        try:
            return await _in(self._callers, answer, self._blocking)
        except UsageError as error:
            raise invalid(str(error), 422) from error
        except TimeoutError:
            raise self._late() from None

    async def _finished(self, make: Callable[[Callable[[Waiting], None]], Waiting]) -> Waiting:
        """Queue a request and wait for it. Where its client leaves, what has not run yet is left out."""
        loop = asyncio.get_running_loop()
        future: asyncio.Future[Waiting] = loop.create_future()
        waiting = make(lambda request: None if future.done() else future.set_result(request))
        self._add(waiting)
        try:
            async with asyncio.timeout(self._settings.timeout):
                await future
        except TimeoutError:
            raise self._late() from None
        finally:
            waiting.dropped = not future.done() or future.cancelled()
        if waiting.error is not None:
            raise waiting.error
        return waiting

    def _late(self) -> Refusal:
        return Refusal(504, f"{self.name} did not answer within {self._settings.timeout:g} s", 1)


def _characters(text: Text) -> int:
    return len(text) if isinstance(text, str) else sum(map(len, text))


async def _in(threads: Executor, work: Callable[..., Answer], *arguments: Any) -> Answer:
    return await asyncio.get_running_loop().run_in_executor(threads, work, *arguments)


def tell_in(loop: asyncio.AbstractEventLoop) -> Callable[[list[Waiting]], None]:
    """Return what lanes tell finished requests by: all of a batch in one call into the event loop."""

    def tell(done: list[Waiting]) -> None:
        if done:
            with contextlib.suppress(RuntimeError):  # the loop has ended; so have those who waited
                loop.call_soon_threadsafe(tell_each, done)

    return tell


def table_record(table: SpeedTable) -> list[dict[str, float]]:
    """Return the measured rows for logs and answers: milliseconds by tokens."""
    return [{"tokens": n, "ms": round(1e3 * s, 3)} for n, s in zip(table.sizes, table.seconds, strict=True)]
