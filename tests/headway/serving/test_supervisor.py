"""Whole servers, as processes: damaged bundles, ports, workers that die, hot swaps and stops under load."""

import gc
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
from typing import Any

import pytest

from headway.errors import TargetError, UsageError
from headway.serving.event_log import EventLog
from headway.serving.server_settings import ServerSettings
from headway.serving.service_metrics import FOLDER_VARIABLE
from headway.serving.supervisor import Supervisor, bundle_names, check_certificate, listen, run_worker

from tests.support.served import server_process, settings_of, wait_until


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


def test_files_that_are_no_certificate_with_its_key_are_refused(tmp_path: Path) -> None:
    files = [tmp_path / name for name in ("cert.pem", "key.pem")]
    for file in files:
        file.write_text("nothing of that kind")
    with pytest.raises(UsageError, match=r"cert\.pem and .*key\.pem: no certificate with its key"):
        check_certificate(ServerSettings(certificate=files[0], key=files[1]))
    check_certificate(ServerSettings())


@pytest.fixture
def breakable(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """Return a file: once it is there, workers fail as they start."""
    file = tmp_path / "broken"

    def worker(*arguments: Any) -> int:
        if file.exists():
            raise ValueError("no such thing")
        return run_worker(*arguments)

    monkeypatch.setattr("headway.serving.supervisor.run_worker", worker)
    import prometheus_client  # noqa: F401  which would keep all figures of this process in the server's folder, imported later

    for name in ("TOKENIZERS_PARALLELISM", FOLDER_VARIABLE):  # the server sets them
        monkeypatch.setenv(name, "")
    return file


def test_workers_that_fail_say_why_and_end_the_server(embedder: Path, breakable: Path, tmp_path: Path) -> None:
    breakable.touch()
    with (tmp_path / "log").open("a") as log:
        server = Supervisor([("model", embedder)], settings_of(port=0, workers=1), EventLog(log))
        with pytest.raises(TargetError, match="before it was ready"):
            server.run(lambda url: None)
    (failed,) = events_in(tmp_path / "log", "worker-failed")
    assert failed["error"] == "ValueError: no such thing"


def test_a_worker_that_ended_before_it_was_ready_is_not_waited_for(monkeypatch: pytest.MonkeyPatch) -> None:
    """Its pipe ends with it, which takes a parent that keeps no end to write to."""
    monkeypatch.setattr(os, "fork", lambda: 4711)  # a child that holds nothing any more
    server = Supervisor([], settings_of())
    with listen("127.0.0.1", 0) as bound:
        server._fork(bound, [])
    gc.unfreeze()
    (worker,) = server._workers.values()
    assert not server._says_ready(worker) and worker.ready == -1


def test_a_refused_swap_counts_no_deaths(embedder: Path, breakable: Path, tmp_path: Path) -> None:
    answered: list[int] = []
    path = tmp_path / "log"

    def act(url: str) -> None:
        breakable.touch()
        os.kill(os.getpid(), signal.SIGHUP)
        wait_until(lambda: events_in(path, "swap-refused"))
        answered.append(get(int(url.rpartition(":")[2].strip("/")), "/health")[0])
        os.kill(os.getpid(), signal.SIGTERM)

    with path.open("a") as log:
        server = Supervisor([("model", embedder)], settings_of(port=0, workers=3, threads=3), EventLog(log))
        assert server.run(lambda url: threading.Thread(target=act, args=(url,), daemon=True).start()) == 0
    assert answered == [200] and events_in(path, "worker-failed")
    assert not events_in(path, "gave-up") and not events_in(path, "worker-died")


def events_in(log: Path, name: str) -> list[dict[str, Any]]:
    return [event for line in log.read_text().splitlines() if (event := json.loads(line))["event"] == name]


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

    def lives(child: psutil.Process) -> bool:
        try:
            return bool(child.status() != psutil.STATUS_ZOMBIE)
        except psutil.NoSuchProcess:  # it ended after it was listed
            return False

    return [child.pid for child in psutil.Process(process).children() if lives(child)]
