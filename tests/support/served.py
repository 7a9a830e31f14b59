"""Serve bundles within a test: the application alone, or a server on a socket, in this process or in one of its own."""

import contextlib
import json
import os
import signal
import subprocess
import sys
import threading
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

from headway.serving.application import Service
from headway.serving.connections import DrainingServer
from headway.serving.event_log import EventLog
from headway.serving.served_bundle import OpenedBundle
from headway.serving.server_settings import ServerSettings
from headway.serving.supervisor import listen


def settings_of(**changes: Any) -> ServerSettings:
    """Return settings under which nothing is refused for its latency, however busy the machine is."""
    return ServerSettings(**{"p99": 60.0, "threads": 2, **changes})


def service_of(*bundles: Path, log: EventLog | None = None, **changes: Any) -> Service:
    settings = settings_of(**changes)
    return Service([OpenedBundle(path.name, path, settings) for path in bundles], settings, log)


@contextlib.contextmanager
def client_of(*bundles: Path, **changes: Any) -> Iterator[Any]:
    """Yield a client of the application, without a socket."""
    from starlette.testclient import TestClient

    with TestClient(service_of(*bundles, **changes).app) as client:
        yield client


@contextlib.contextmanager
def on_socket(service: Service) -> Iterator[int]:
    """Yield the port at which a server in a thread of this process answers."""
    import asyncio

    server = DrainingServer(service)
    with listen("127.0.0.1", 0) as bound:
        thread = threading.Thread(target=lambda: asyncio.run(server.serve(sockets=[bound])), daemon=True)
        thread.start()
        wait_until(lambda: server.started)
        yield bound.getsockname()[1]
        server.should_exit = True
        thread.join(30)


def wait_until(holds: Any, seconds: float = 30.0) -> None:
    """Return when something holds. AssertionError where it does not in time."""
    end = time.monotonic() + seconds
    while not holds():
        assert time.monotonic() < end
        time.sleep(0.01)


class ServerProcess:
    """`headway serve` in a process of its own, with workers below it; its log is a file."""

    def __init__(self, folder: Path, *words: object, **environment: str):
        self.log = folder / "server.log"
        command = [sys.executable, "-m", "headway.exporter.cli", "serve", *map(str, words), "--port", "0"]
        with self.log.open("w") as log:
            self.process = subprocess.Popen(
                command, stdout=subprocess.PIPE, stderr=log, text=True, env=os.environ | environment
            )
        assert self.process.stdout is not None
        self.url = self.process.stdout.readline().strip().rstrip("/")
        assert self.url, self.log.read_text()

    @property
    def port(self) -> int:
        return int(self.url.rpartition(":")[2])

    def events(self, name: str) -> list[dict[str, Any]]:
        lines = self.log.read_text().splitlines()
        return [event for line in lines if line.startswith("{") and (event := json.loads(line))["event"] == name]

    def signal(self, number: int) -> None:
        self.process.send_signal(number)

    def stop(self) -> int:
        """End it as a system does, and return its exit code."""
        self.signal(signal.SIGTERM)
        return self.process.wait(60)


@contextlib.contextmanager
def server_process(folder: Path, *words: object, **environment: str) -> Iterator[ServerProcess]:
    running = ServerProcess(folder, *words, **environment)
    try:
        yield running
    finally:
        if running.process.poll() is None:
            running.stop()
        running.process.stdout.close()  # type: ignore[union-attr]
