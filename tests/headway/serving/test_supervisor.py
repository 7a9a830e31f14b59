"""Whole servers, as processes: damaged bundles, ports, workers that die, hot swaps and stops under load."""

import json
import os
import shutil
import signal
import socket
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from http.client import HTTPConnection
from pathlib import Path

import pytest

from headway.errors import UsageError
from headway.serving.supervisor import bundle_names, listen

from tests.support.served import server_process, wait_until


class Load:
    """Clients that keep asking, each on a connection that it keeps while the server does; every answer is counted."""

    def __init__(self, port: int, count: int = 3):
        self.statuses: list[int] = []
        self.errors: list[BaseException] = []
        self._port = port
        self._stop = threading.Event()
        self._threads = [threading.Thread(target=self._ask, daemon=True) for _ in range(count)]
        for thread in self._threads:
            thread.start()

    def _ask(self) -> None:
        connection = HTTPConnection("127.0.0.1", self._port, timeout=60)
        while not self._stop.is_set():
            try:
                connection.request("POST", "/embed", json.dumps({"inputs": ["the price of bread", "rain"]}))
                response = connection.getresponse()
                response.read()
                self.statuses.append(response.status)
            except ConnectionRefusedError:
                return  # it has stopped
            except OSError as error:
                self.errors.append(error)
                return

    def end(self) -> None:
        self._stop.set()
        for thread in self._threads:
            thread.join(60)


@contextmanager
def load(port: int) -> Iterator[Load]:
    running = Load(port)
    wait_until(lambda: len(running.statuses) > 10)
    yield running
    running.end()


def test_names_are_those_of_directories(tmp_path: Path) -> None:
    assert bundle_names([tmp_path / "a", tmp_path / "b/"]) == [("a", tmp_path / "a"), ("b", tmp_path / "b")]
    with pytest.raises(UsageError, match="two bundles are called a"):
        bundle_names([tmp_path / "a", tmp_path / "b" / "a"])


def test_two_servers_on_one_port() -> None:
    with listen("127.0.0.1", 0) as first:
        port = first.getsockname()[1]
        with pytest.raises(UsageError, match=f"127.0.0.1:{port} cannot be listened on"):
            listen("127.0.0.1", port)
    with pytest.raises(UsageError, match="--host"):
        listen("no.such.host.invalid", 0)


def test_answers_are_sent_at_once() -> None:
    with listen("127.0.0.1", 0) as bound:
        assert bound.proto == socket.IPPROTO_TCP  # on which asyncio sets TCP_NODELAY


def get(port: int, path: str) -> tuple[int, bytes]:
    connection = HTTPConnection("127.0.0.1", port, timeout=30)
    connection.request("GET", path)
    response = connection.getresponse()
    return response.status, response.read()


def test_the_life_of_a_server(embedder: Path, tmp_path: Path) -> None:
    bundle = Path(shutil.copytree(embedder, tmp_path / "model"))
    with server_process(tmp_path, bundle, "--workers", 2, "--p99", "60s", "--threads", 2) as server:
        (opened,) = server.events("opened")
        assert opened["model"] == "model" and opened["measured"]
        with load(server.port) as clients:
            # A worker that is killed is replaced. What it had accepted is lost with it, and only that.
            wait_until(lambda: get(server.port, "/health")[0] == 200)
            children = workers_of(server.process.pid)
            assert len(children) == 2
        assert set(clients.statuses) == {200} and not clients.errors
        os.kill(children[0], signal.SIGKILL)
        wait_until(lambda: server.events("worker-died"))
        wait_until(lambda: len(workers_of(server.process.pid)) == 2)
        with load(server.port) as clients:
            swaps_under_load(server, bundle, clients)
        assert set(clients.statuses) == {200} and not clients.errors
        text = get(server.port, "/metrics")[1].decode()
        counted = [
            line for line in text.splitlines() if line.startswith("headway_requests_total") and 'status="200"' in line
        ]
        assert counted and 'model="model"' in counted[0]
        with load(server.port) as clients:
            assert server.stop() == 0
        assert set(clients.statuses) == {200} and not clients.errors
    assert server.events("stopped") and not server.events("error")
    with pytest.raises(ConnectionRefusedError):
        socket.create_connection(("127.0.0.1", server.port), timeout=5)


def swaps_under_load(server, bundle: Path, clients: Load) -> None:
    """Swap a bundle for itself, and for a damaged one, which is refused."""
    before = set(workers_of(server.process.pid))
    server.signal(signal.SIGHUP)
    wait_until(lambda: server.events("swapped"))
    wait_until(lambda: not before & set(workers_of(server.process.pid)))
    model = bundle / "model.onnx"
    whole = model.read_bytes()
    model.write_bytes(whole[:-1])
    server.signal(signal.SIGHUP)
    wait_until(lambda: server.events("swap-refused"))
    assert "incomplete" in server.events("swap-refused")[0]["error"]
    model.write_bytes(whole)
    answered = len(clients.statuses)
    wait_until(lambda: len(clients.statuses) > answered + 10)


def workers_of(process: int) -> list[int]:
    import psutil

    return [child.pid for child in psutil.Process(process).children() if child.status() != psutil.STATUS_ZOMBIE]
