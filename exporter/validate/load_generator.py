"""Let MLCommons' LoadGen send the queries of a scenario, and keep what it says about the run: valid or not, and why.

LoadGen keeps its state in the process, so that one scenario runs at a time. Its log goes into a folder that is removed.
"""

import json
import queue
import threading
import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from importlib.util import find_spec
from pathlib import Path
from typing import Any

from ...scratch import scratch

MISSING = (
    "mlperf_loadgen is not installed: pip install mlcommons-loadgen (Python 3.11 has wheels of it), or give --scenario closed-loop, which "
    "needs none"
)

Answer = Callable[[Sequence[int]], None]
"""Runs the texts of some numbers as one batch."""

_NAMES = {"single-stream": "SingleStream", "multi-stream": "MultiStream", "offline": "Offline", "server": "Server"}
_DETAIL = "mlperf_log_detail.txt"
_QUICKER = 0.3
"""LoadGen makes its queries beforehand, so many as fit: it is told that answers come this much sooner, so that they do not run out."""


@dataclass
class Log:
    """What happened: for each query the time from its start to its answer by the wall clock, in milliseconds, in order of answers.

    `batch_ms` are texts and milliseconds of each run. `valid`, `reasons`, `early_stopping` and `counts` are LoadGen's own: its latencies
    of a server begin when a query was due.
    """

    wall_ms: list[float] = field(default_factory=list)
    cpu_ms: list[float] = field(default_factory=list)
    batch_ms: list[tuple[int, float]] = field(default_factory=list)
    seconds: float = 0.0
    valid: bool | None = None
    reasons: list[str] = field(default_factory=list)
    early_stopping: dict[str, float | bool] = field(default_factory=dict)
    counts: dict[str, int] = field(default_factory=dict)


def available() -> bool:
    """Return whether LoadGen can be imported."""
    return find_spec("mlperf_loadgen") is not None


def generate(
    scenario: str,
    answer: Answer,
    texts: int,
    *,
    seconds: float,
    least: int = 1,
    seed: int = 0,
    samples_per_query: int = 8,
    batch: int = 32,
    expected_ms: float = 10.0,
    rate: float = 10.0,
    bound_ms: float = 100.0,
) -> Log:
    """Run a scenario of LoadGen over `texts` texts for at least `seconds` and `least` queries.

    Offline texts are run in batches of `batch`. `expected_ms` is about what a text takes; a server gets `rate` queries a second, of
    which 99 % have to be answered within `bound_ms`.
    """
    import mlperf_loadgen as lg

    settings = lg.TestSettings()
    settings.scenario = getattr(lg.TestScenario, _NAMES[scenario])
    settings.mode = lg.TestMode.PerformanceOnly
    settings.min_duration_ms = int(seconds * 1e3)
    settings.max_duration_ms = int(seconds * 4e3) + 1000
    settings.min_query_count = least if scenario != "offline" else 1
    for name in ("qsl_rng_seed", "sample_index_rng_seed", "schedule_rng_seed"):
        setattr(settings, name, seed * 7919 + 12345)
    least_ns = max(int(expected_ms * _QUICKER * 1e6), 1)
    settings.single_stream_expected_latency_ns = settings.multi_stream_expected_latency_ns = least_ns
    settings.multi_stream_samples_per_query = samples_per_query
    settings.offline_expected_qps = 1e3 / expected_ms
    settings.server_target_qps = rate
    settings.server_target_latency_ns = int(bound_ms * 1e6)
    settings.server_target_latency_percentile = 0.99
    run = _Server(lg, answer) if scenario == "server" else _InTurn(lg, answer, batch if scenario == "offline" else None)
    with scratch() as folder:
        logs = lg.LogSettings()
        logs.log_output.outdir = str(folder)
        logs.log_output.copy_summary_to_stdout = False
        logs.enable_trace = False
        system = lg.ConstructSUT(run.issue, run.flush)
        library = lg.ConstructQSL(texts, texts, lambda _: None, lambda _: None)
        began = time.perf_counter()
        try:
            lg.StartTestWithLogSettings(system, library, settings, logs)
        finally:
            run.close()
            lg.DestroyQSL(library)
            lg.DestroySUT(system)
        if run.failed is not None:
            raise run.failed
        run.log.seconds = time.perf_counter() - began
        _read_verdict(Path(folder) / _DETAIL, run.log)
    return run.log


class _InTurn:
    """Answers a query when it is issued, in the thread of LoadGen; `batch` splits the one query of the scenario offline."""

    def __init__(self, lg: Any, answer: Answer, batch: int | None):
        self.log = Log()
        self.failed: BaseException | None = None
        self._lg, self._answer, self._batch = lg, answer, batch

    def issue(self, samples: Sequence[Any]) -> None:
        """Answer the samples of a query."""
        size = self._batch or len(samples)
        for first in range(0, len(samples), size):
            part = samples[first : first + size]
            if self.failed is None:
                self._timed([sample.index for sample in part])
            self._lg.QuerySamplesComplete([self._lg.QuerySampleResponse(sample.id, 0, 0) for sample in part])

    def _timed(self, indices: Sequence[int]) -> None:
        cpu, wall = time.thread_time_ns(), time.perf_counter_ns()
        try:
            self._answer(indices)
        except (
            BaseException
        ) as error:  # LoadGen's own threads would end the process; it is raised again when they are done
            self.failed = error
            return
        ms = (time.perf_counter_ns() - wall) / 1e6
        self.log.wall_ms.append(ms)
        self.log.cpu_ms.append((time.thread_time_ns() - cpu) / 1e6)
        self.log.batch_ms.append((len(indices), ms))

    def flush(self) -> None:
        """Do nothing: no query waits."""

    def close(self) -> None:
        """Do nothing: there is no thread."""


class _Server(_InTurn):
    """Answers queries in a thread, one after another, as they arrive; a latency counts the time that a query waited."""

    def __init__(self, lg: Any, answer: Answer):
        super().__init__(lg, answer, None)
        self._waiting: queue.SimpleQueue[tuple[int, Any] | None] = queue.SimpleQueue()
        self._thread = threading.Thread(target=self._serve, daemon=True)
        self._thread.start()

    def issue(self, samples: Sequence[Any]) -> None:
        """Put queries into the line."""
        now = time.perf_counter_ns()
        for sample in samples:
            self._waiting.put((now, (sample.id, sample.index)))

    def _serve(self) -> None:
        while (item := self._waiting.get()) is not None:
            arrived, (number, index) = item
            if self.failed is None:
                self._timed([index])
                if self.failed is None:
                    self.log.wall_ms[-1] = (time.perf_counter_ns() - arrived) / 1e6
            self._lg.QuerySamplesComplete([self._lg.QuerySampleResponse(number, 0, 0)])

    def close(self) -> None:
        """End the thread."""
        self._waiting.put(None)
        self._thread.join()


_EARLY = {
    "early_stopping_latency_ss": "early_stopping_p90_ms",
    "early_stopping_latency_ms": "early_stopping_p99_ms",
}
"""LoadGen's estimates in nanoseconds, and what they are called here."""


def _read_verdict(detail: Path, log: Log) -> None:
    """Take LoadGen's verdict from its log."""
    for line in detail.read_text(encoding="utf-8").splitlines():
        _, mark, content = line.partition(":::MLLOG ")
        if not mark:
            continue
        entry = json.loads(content)
        key, value = entry["key"], entry["value"]
        if key == "result_validity":
            log.valid = value == "VALID"
        elif key == "result_invalid_reason":
            log.reasons += [str(value).strip()] if str(value).strip() else []
        elif key in ("result_query_count", "result_overlatency_query_count"):
            log.counts["late" if "over" in key else "queries"] = int(value)
        elif key in _EARLY and value:
            log.early_stopping[_EARLY[key]] = int(value) / 1e6
        elif key == "early_stopping_met":
            log.early_stopping["met"] = value in (True, "true")
