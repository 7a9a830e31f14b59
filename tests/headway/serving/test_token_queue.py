"""The queue: what shares a batch, who waits, who is refused, and that nothing is lost."""

import threading
import time
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

import numpy as np
import pytest

from headway.serving.refusal import Refusal
from headway.serving.speed_table import SpeedTable
from headway.serving.token_queue import Lanes, TokenQueue, TokenRow, Waiting

TABLE = SpeedTable((16, 1024), (0.001, 0.064))


@dataclass
class Recorder:
    """A runner that returns each row's first id, and keeps the shapes of its batches. It waits until `gate` is open."""

    input_names: tuple[str, ...] = ("input_ids",)
    output_names: tuple[str, ...] = ("first", "each")
    vocabulary: int | None = None
    shapes: list[tuple[int, ...]] = field(default_factory=list)
    gate: threading.Event = field(default_factory=threading.Event)
    bad: int | None = None

    def run(self, feeds: Mapping[str, np.ndarray]) -> dict[str, np.ndarray]:
        assert self.gate.wait(30)
        ids = feeds["input_ids"]
        self.shapes.append(ids.shape)
        if self.bad is not None and (ids == self.bad).any():
            raise ValueError("a bad id")
        return {"first": ids[:, 0], "each": ids}


def batch(rows: Sequence[Any]) -> dict[str, np.ndarray]:
    ids = np.zeros((len(rows), max(len(row.ids) for row in rows)), np.int64)
    for i, row in enumerate(rows):
        ids[i, : len(row.ids)] = row.ids
    return {"input_ids": ids}


def queue_of(runner: Recorder, budget: int = 32, mixes: bool = True, wait: float = 0.0) -> TokenQueue:
    return TokenQueue(runner, batch, TABLE, budget, wait, mixes, frozenset({"each"}))


def request(*lengths: int, first: int = 1, done: Any = None) -> Waiting:
    rows = [TokenRow([first + i] * n, [0] * n) for i, n in enumerate(lengths)]
    return Waiting(rows, done or (lambda _: None))


def batches(queue: TokenQueue) -> list[list[int]]:
    taken = []
    while queue.first_arrival() is not None:
        taken.append([part.tokens for part in queue.take()])
    return taken


def test_a_batch_is_what_fits_the_budget_in_order() -> None:
    queue = queue_of(Recorder())
    queue.add(request(10, 10, 10, 10))
    queue.add(request(40, 5))
    queue.add(request(20))
    assert queue.tokens == 105
    assert batches(queue) == [[10, 10, 10], [10], [40], [5, 20]]
    assert queue.tokens == 0


def test_where_padding_matters_a_batch_has_one_length() -> None:
    queue = queue_of(Recorder(), mixes=False)
    queue.add(request(5, 6, 5, 6, 7, 5))
    assert batches(queue) == [[5, 5, 5], [6, 6], [7]]
    assert queue.tokens == 0


def test_what_nobody_waits_for_is_not_run() -> None:
    queue = queue_of(Recorder())
    gone, kept = request(5, 5), request(6)
    queue.add(gone)
    queue.add(kept)
    queue.add(gone2 := request(7))
    gone.dropped = gone2.dropped = True
    assert batches(queue) == [[6]] and queue.tokens == 0


def test_tensors_that_run_as_they_are_run_alone() -> None:
    queue = queue_of(Recorder())
    feeds = {"input_ids": np.ones((2, 4), np.int64)}
    queue.add(request(3))
    queue.add(Waiting([TokenRow([1] * 4, [0] * 4)] * 2, lambda _: None, feeds))
    queue.add(request(3))
    assert batches(queue) == [[3], [8], [3]] and queue.tokens == 0


@pytest.fixture
def lanes() -> Any:
    made = Lanes(2)
    made.start()
    yield made
    made.close(30)


def run_all(lanes: Lanes, queue: TokenQueue, requests: Sequence[Waiting], events: Sequence[threading.Event]) -> None:
    for waiting in requests:
        lanes.add(queue, waiting)
    assert all(event.wait(30) for event in events)


def test_each_request_gets_its_own_rows(lanes: Lanes) -> None:
    runner = Recorder()
    runner.gate.set()
    queue = queue_of(runner)
    lanes.open_queue(queue)
    events = [threading.Event() for _ in range(50)]
    requests = [
        request(*range(1, 1 + n % 5 + 1), first=100 * n, done=lambda _, e=event: e.set())
        for n, event in enumerate(events)
    ]
    run_all(lanes, queue, requests, events)
    for n, waiting in enumerate(requests):
        assert [int(r["first"]) for r in waiting.results] == [100 * n + i for i in range(n % 5 + 1)]
        assert [len(r["each"]) for r in waiting.results] == waiting.lengths
        assert waiting.queued >= 0 and waiting.ran > 0
    assert sum(shape[0] for shape in runner.shapes) == sum(len(w.rows) for w in requests)


def test_an_error_is_that_of_the_request_that_caused_it(lanes: Lanes) -> None:
    runner = Recorder(bad=7)
    queue = queue_of(runner, budget=1000)
    lanes.open_queue(queue)
    events = [threading.Event() for _ in range(8)]
    requests = [request(3, first=n, done=lambda _, e=event: e.set()) for n, event in enumerate(events, start=2)]
    for waiting in requests:
        lanes.add(queue, waiting)
    runner.gate.set()
    assert all(event.wait(30) for event in events)
    assert [w.error is not None for w in requests] == [n == 7 for n in range(2, 10)]
    assert [int(w.results[0]["first"]) for w in requests if w.error is None] == [n for n in range(2, 10) if n != 7]


def test_requests_that_would_wait_too_long_are_refused(lanes: Lanes) -> None:
    runner = Recorder()
    queue = queue_of(runner)
    lanes.open_queue(queue)
    events = [threading.Event() for _ in range(12)]
    for event in events:
        lanes.add(queue, request(30, done=lambda _, e=event: e.set()))
    time.sleep(0.05)  # both lanes have a batch, which stays; ten wait
    with pytest.raises(Refusal) as refused:
        lanes.add(queue, request(30), most_wait=0.005)
    assert refused.value.status == 429 and refused.value.retry_after == 1
    with pytest.raises(Refusal):
        lanes.check(queue, 0.005)
    lanes.check(queue, 10.0)
    lanes.add(queue, last := request(30, done=lambda _: None), most_wait=10.0)
    assert lanes.ahead() > 0.005
    runner.gate.set()
    assert all(event.wait(30) for event in events)
    lanes.close(30)
    assert int(last.results[0]["first"]) == 1  # closing runs what waits
    assert lanes.ahead() == 0.0


def test_a_long_request_is_taken_where_little_waits(lanes: Lanes) -> None:
    runner = Recorder()
    queue = queue_of(runner, budget=1024)
    lanes.open_queue(queue)
    done = threading.Event()
    lanes.add(queue, request(*[32] * 200, done=lambda _: done.set()), most_wait=0.001)
    runner.gate.set()
    assert done.wait(30)


def test_a_batch_waits_for_more_while_another_runs() -> None:
    lanes, runner = Lanes(2), Recorder()
    queue = queue_of(runner, wait=30.0)
    lanes.open_queue(queue)
    lanes.start()
    lanes.add(queue, request(5))
    while not queue.ends:  # nothing else runs: it is taken at once
        time.sleep(0.001)
    lanes.add(queue, request(10))
    time.sleep(0.05)
    assert len(queue.ends) == 1 and queue.tokens == 10
    lanes.add(queue, request(22))  # the budget is full
    while len(queue.ends) < 2:
        time.sleep(0.001)
    runner.gate.set()
    lanes.close(30)
    assert sorted(runner.shapes) == [(1, 5), (2, 22)]


def test_the_longest_waiting_queue_is_served_first() -> None:
    lanes, runner = Lanes(1), Recorder()
    runner.gate.set()
    first, second = queue_of(runner), queue_of(runner)
    lanes.open_queue(first)
    lanes.open_queue(second)
    order: list[str] = []
    lanes.add(second, request(5, done=lambda _: order.append("second")))
    lanes.add(first, request(5, done=lambda _: order.append("first")))
    lanes.start()
    lanes.close(30)
    assert order == ["second", "first"]


def test_what_batches_take_is_learned() -> None:
    runner = Recorder()
    runner.gate.set()
    queue = queue_of(runner)
    before = queue.seconds(16)
    for _ in range(20):
        queue.add(request(16))
        queue.run(queue.take())
    assert queue.seconds(16) < before  # the runner is faster than the table says
