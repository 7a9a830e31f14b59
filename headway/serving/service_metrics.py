"""Count and time what a server does, for Prometheus. Several processes keep their figures in files of one folder, and any tells all."""

import os
from collections.abc import Callable
from pathlib import Path

FOLDER_VARIABLE = "PROMETHEUS_MULTIPROC_DIR"
"""Where prometheus-client keeps the figures of several processes. It is read when the library is imported."""

_SECONDS = (0.001, 0.002, 0.005, 0.01, 0.02, 0.05, 0.1, 0.2, 0.5, 1.0, 2.0, 5.0, 10.0, 30.0)
_TOKENS = (16, 32, 64, 128, 256, 512, 1024, 2048, 4096, 8192)
_TEXTS = (1, 2, 4, 8, 16, 32, 64, 128, 256)


class Metrics:
    """The figures of one process."""

    def __init__(self) -> None:
        from prometheus_client import CollectorRegistry, Counter, Gauge, Histogram

        self._registry = registry = CollectorRegistry()
        self._requests = Counter(
            "headway_requests", "Requests answered.", ["endpoint", "model", "status"], registry=registry
        )
        self._seconds = Histogram(
            "headway_request_seconds",
            "Seconds from the head of a request to its answer.",
            ["endpoint"],
            buckets=_SECONDS,
            registry=registry,
        )
        self._queued = Histogram(
            "headway_queue_seconds",
            "Seconds a request waited until its first batch ran.",
            ["model"],
            buckets=_SECONDS,
            registry=registry,
        )
        self._texts = Counter("headway_texts", "Texts answered.", ["model"], registry=registry)
        self._tokens = Counter("headway_tokens", "Tokens computed.", ["model"], registry=registry)
        self._batch_seconds = Histogram(
            "headway_batch_seconds", "Seconds of a batch.", ["model"], buckets=_SECONDS, registry=registry
        )
        self._batch_tokens = Histogram(
            "headway_batch_tokens", "Tokens of a batch.", ["model"], buckets=_TOKENS, registry=registry
        )
        self._batch_texts = Histogram(
            "headway_batch_texts", "Texts of a batch.", ["model"], buckets=_TEXTS, registry=registry
        )
        self._waiting = Gauge(
            "headway_queue_tokens", "Tokens that wait.", ["model"], registry=registry, multiprocess_mode="livesum"
        )
        self._expected = Gauge(
            "headway_queue_expected_seconds",
            "Seconds until a text that came now would run.",
            ["model"],
            registry=registry,
            multiprocess_mode="livemax",
        )

    def answered(self, endpoint: str, model: str, status: int, seconds: float) -> None:
        self._requests.labels(endpoint, model, str(status)).inc()
        self._seconds.labels(endpoint).observe(seconds)

    def used(self, model: str, texts: int, tokens: int, queued: float) -> None:
        self._texts.labels(model).inc(texts)
        self._tokens.labels(model).inc(tokens)
        self._queued.labels(model).observe(queued)

    def batches(self, model: str) -> Callable[[int, int, float], None]:
        """Return what a queue tells its batches to."""
        seconds, tokens, texts = (h.labels(model) for h in (self._batch_seconds, self._batch_tokens, self._batch_texts))

        def watch(count: int, size: int, took: float) -> None:
            seconds.observe(took)
            tokens.observe(size)
            texts.observe(count)

        return watch

    def queue(self, model: str, tokens: int, expected: float) -> None:
        self._waiting.labels(model).set(tokens)
        self._expected.labels(model).set(expected)

    def text(self) -> tuple[bytes, str]:
        """Return the figures of all processes as Prometheus reads them, and their media type."""
        from prometheus_client import CollectorRegistry, generate_latest
        from prometheus_client.exposition import CONTENT_TYPE_PLAIN_0_0_4
        from prometheus_client.multiprocess import MultiProcessCollector

        registry = self._registry
        if os.environ.get(FOLDER_VARIABLE):
            registry = CollectorRegistry()
            MultiProcessCollector(registry)
        return generate_latest(registry), CONTENT_TYPE_PLAIN_0_0_4


def share_metrics(folder: Path) -> None:
    """Keep the figures of this process and of those forked from it in a folder. To be called before the first `Metrics`."""
    os.environ[FOLDER_VARIABLE] = str(folder)


def forget_process(process: int) -> None:
    """Take the gauges of a process that ended out of the sums; what it counted stays."""
    if os.environ.get(FOLDER_VARIABLE):
        from prometheus_client.multiprocess import mark_process_dead

        mark_process_dead(process)
