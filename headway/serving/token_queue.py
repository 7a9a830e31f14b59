"""Queue texts by their tokens, and run what fits a budget as one batch: the heart of the server.

A lane is a thread that takes the next batch of the queue whose first text waits longest. A batch is the texts that came first, as many
as fit the budget. While another batch runs, a smaller one waits a moment for more; on an idle server nothing waits.
"""

import contextlib
import threading
import time
from collections import deque
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any, Protocol

import numpy as np

from ..runners.base import Runner
from .refusal import overloaded
from .speed_table import SpeedTable

_SMOOTH = 0.1
"""How much the latest batch counts in the mean of how much slower batches are than they were measured."""


class Row(Protocol):
    """The tokens of one text, as `tokenizers.Encoding` has them."""

    @property
    def ids(self) -> Sequence[int]: ...
    @property
    def type_ids(self) -> Sequence[int]: ...


@dataclass(frozen=True)
class TokenRow:
    """The tokens of one text that a client sent as ids."""

    ids: Sequence[int]
    type_ids: Sequence[int]


class Waiting:
    """A request in the queue: its rows, and their outputs when they were run. `done` is called once, in a lane's thread."""

    def __init__(
        self, rows: Sequence[Row], done: Callable[["Waiting"], None], feeds: Mapping[str, np.ndarray] | None = None
    ):
        self.rows = rows
        self.lengths = [len(row.ids) for row in rows]
        self.feeds = feeds
        """Where given, run just so, alone; `rows` says how much work it is."""
        self.results: list[dict[str, np.ndarray]] = [{}] * len(rows)
        self.error: BaseException | None = None
        self.dropped = False
        """Set by the client's side where nobody waits for the answer any more."""
        self.arrived = time.perf_counter()
        self.started = 0.0
        self.ran = 0.0
        """Seconds of the batches that its rows were in."""
        self._left = 1 if feeds is not None else len(rows)
        self._done = done

    @property
    def tokens(self) -> int:
        return sum(self.lengths)

    @property
    def queued(self) -> float:
        """Seconds until its first batch began."""
        return self.started - self.arrived if self.started else 0.0

    def finish(self, count: int) -> bool:
        """Count rows that are done; return whether all are."""
        self._left -= count
        return self._left <= 0

    def tell(self) -> None:
        """Tell whoever waits that all is done."""
        self._done(self)


@dataclass
class _Part:
    waiting: Waiting
    row: int
    tokens: int


@dataclass
class TokenQueue:
    """The queue of one bundle. `batch` makes arrays of rows; `mixes` says whether texts of different lengths may share a batch."""

    runner: Runner
    batch: Callable[[Sequence[Any]], dict[str, np.ndarray]]
    table: SpeedTable
    budget: int
    wait: float
    mixes: bool = True
    per_token: frozenset[str] = frozenset()
    """Names of outputs that have a row for each token."""
    watch: Callable[[int, int, float], None] = lambda texts, tokens, seconds: None
    """Told of each batch."""
    slowdown: float = 1.0
    """How much longer batches take than they were measured: other work shares the machine."""
    parts: deque[_Part] = field(default_factory=deque)
    tokens: int = 0
    """Tokens that wait."""
    ends: dict[int, float] = field(default_factory=dict)
    """When each batch that runs is expected to end, by the thread that runs it."""
    ran: deque[tuple[int, int, float]] = field(default_factory=deque)
    """Texts, tokens and seconds of batches that `watch` was not told of yet."""

    def add(self, waiting: Waiting) -> None:
        if waiting.feeds is not None:
            self.parts.append(_Part(waiting, 0, max(1, waiting.tokens)))
        else:
            self.parts.extend(_Part(waiting, i, n) for i, n in enumerate(waiting.lengths))
        self.tokens += waiting.tokens

    def first_arrival(self) -> float | None:
        """Return when the first text came that still waits; None where there is none."""
        while self.parts and self.parts[0].waiting.dropped:
            self.tokens -= self.parts.popleft().tokens
        return self.parts[0].waiting.arrived if self.parts else None

    def take(self) -> list[_Part]:
        """Return the next batch: the first texts that fit the budget, or the first one alone."""
        first = self.parts.popleft()
        batch, total, left = [first], first.tokens, deque[_Part]()
        while self.parts and first.waiting.feeds is None and total < self.budget:
            part = self.parts[0]
            if part.waiting.feeds is not None or total + part.tokens > self.budget:
                break
            self.parts.popleft()
            if part.waiting.dropped:
                self.tokens -= part.tokens
            elif self.mixes or part.tokens == first.tokens:
                batch.append(part)
                total += part.tokens
            else:
                left.append(part)
        self.parts.extendleft(reversed(left))
        self.tokens -= total
        return batch

    def seconds(self, tokens: int) -> float:
        """Return how long a batch of so many tokens takes now."""
        return self.slowdown * self.table.of(max(1, tokens))

    def work(self) -> float:
        """Return the seconds of one lane that what waits and what runs still takes."""
        now = time.perf_counter()
        rest = sum(max(0.0, end - now) for end in self.ends.values())
        return rest + self.seconds(self.budget) * self.tokens / self.budget

    def run(self, batch: list[_Part]) -> list[Waiting]:
        """Run a batch and return the requests that are done by it. An error is that of the request that caused it."""
        for part in batch:
            part.waiting.started = part.waiting.started or time.perf_counter()
        requests = list({id(part.waiting): part.waiting for part in batch}.values())
        try:
            self._compute(batch)
        except Exception as error:
            if len(requests) > 1:  # one of them is at fault: each is run by itself
                return [w for r in requests for w in self.run([p for p in batch if p.waiting is r])]
            requests[0].error = error
        return [r for r in requests if r.finish(sum(p.waiting is r for p in batch))]

    def _compute(self, batch: list[_Part]) -> None:
        first = batch[0].waiting
        start = time.perf_counter()
        if first.feeds is not None:
            first.results = [self.runner.run(first.feeds)]
        else:
            outputs = self.runner.run(self.batch([part.waiting.rows[part.row] for part in batch]))
            for i, part in enumerate(batch):
                part.waiting.results[part.row] = {
                    name: array[i, : part.tokens] if name in self.per_token else array[i]
                    for name, array in outputs.items()
                }
        took = time.perf_counter() - start
        tokens = sum(part.tokens for part in batch)
        for waiting in {id(p.waiting): p.waiting for p in batch}.values():
            waiting.ran += took
        self.slowdown += _SMOOTH * (min(max(took / self.table.of(tokens), 0.2), 20.0) - self.slowdown)
        self.ran.append((len(batch), tokens, took))

    def tell_watch(self) -> None:
        """Tell of the batches that ran: after their answers are on their way."""
        while self.ran:
            try:
                ran = self.ran.popleft()
            except IndexError:  # another lane tells of it
                return
            with contextlib.suppress(Exception):  # figures are no reason to end a lane
                self.watch(*ran)


def tell_each(done: list[Waiting]) -> None:
    """Tell whoever waits for each of these requests."""
    for waiting in done:
        waiting.tell()


class Lanes:
    """Threads that run batches of any number of queues, the longest-waiting first. `close` ends them when all is run."""

    def __init__(self, count: int, tell: Callable[[list[Waiting]], None] | None = None):
        self.count = count
        self._tell = tell or tell_each
        self._changed = threading.Condition()
        self._queues: list[TokenQueue] = []
        self._running = 0
        self._closing = False
        self._threads = [
            threading.Thread(target=self._work, name=f"headway-lane-{i}", daemon=True) for i in range(count)
        ]

    def start(self) -> None:
        for thread in self._threads:
            thread.start()

    def open_queue(self, queue: TokenQueue) -> None:
        with self._changed:
            self._queues.append(queue)

    def add(self, queue: TokenQueue, waiting: Waiting, most_wait: float | None = None) -> None:
        """Queue a request. With `most_wait`, Refusal (429) where it is expected to take longer.

        A request that is long by itself may find half of that ahead. Nothing is refused where nothing waits.
        """
        with self._changed:
            if most_wait is not None:
                self._check(queue, queue.seconds(min(waiting.tokens, queue.budget)), most_wait)
            queue.add(waiting)
            self._changed.notify()

    def check(self, queue: TokenQueue, most_wait: float) -> None:
        """Raise Refusal where any request would be refused: to be asked before work is done for one."""
        with self._changed:
            self._check(queue, 0.0, most_wait)

    def _check(self, queue: TokenQueue, own: float, most_wait: float) -> None:
        if not queue.parts:
            return
        ahead = self._ahead()
        if ahead + min(own, most_wait / 2) > most_wait:
            raise overloaded(ahead + own)

    def ahead(self) -> float:
        """Return the seconds until a text that came now would begin to run."""
        with self._changed:
            return self._ahead()

    def _ahead(self) -> float:
        return sum(queue.work() for queue in self._queues) / self.count if self._running >= self.count else 0.0

    def close(self, timeout: float | None = None) -> None:
        with self._changed:
            self._closing = True
            self._changed.notify_all()
        for thread in self._threads:
            if thread.ident is not None:
                thread.join(timeout)

    def _next(self) -> tuple[TokenQueue, list[_Part]] | None:
        """Wait for a batch; None at the end."""
        with self._changed:
            while True:
                arrivals = sorted((t, i) for i, q in enumerate(self._queues) if (t := q.first_arrival()) is not None)
                if not arrivals and self._closing:
                    return None
                rests = []
                for arrived, number in arrivals:
                    queue = self._queues[number]
                    rest = arrived + queue.wait - time.perf_counter()
                    if rest <= 0 or not self._running or queue.tokens >= queue.budget or self._closing:
                        self._running += 1
                        batch = queue.take()
                        expected = queue.seconds(sum(part.tokens for part in batch))
                        queue.ends[threading.get_ident()] = time.perf_counter() + expected
                        if any(q.parts for q in self._queues):
                            self._changed.notify()
                        return queue, batch
                    rests.append(rest)
                self._changed.wait(min(rests, default=None))

    def _work(self) -> None:
        while (taken := self._next()) is not None:
            queue, batch = taken
            done: list[Waiting] = []
            try:
                done = queue.run(batch)
            finally:
                with self._changed:
                    self._running -= 1
                    del queue.ends[threading.get_ident()]
            self._tell([w for w in done if not w.dropped])
            queue.tell_watch()
