"""Connections on a real socket: slow and silent clients, large bodies, and a server that stops under them."""

import json
import socket
import threading
import time
from collections.abc import Iterator
from http.client import HTTPConnection
from pathlib import Path
from types import SimpleNamespace

import pytest

from headway.serving import connections

from tests.support.served import on_socket, service_of, settings_of, wait_until

REQUEST = b"POST /embed HTTP/1.1\r\nHost: x\r\nContent-Length: 18\r\n\r\n"
BODY = b'{"inputs": "rain"}'


@pytest.fixture
def quick(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(connections, "HEAD_TIMEOUT", 0.2)
    monkeypatch.setattr(connections, "_LAST_REQUESTS", 0.3)


@pytest.fixture
def port(embedder: Path, quick: None) -> Iterator[int]:
    with on_socket(service_of(embedder, timeout=1.0, most_bytes=10_000)) as number:
        yield number


def ask(port: int, body: bytes = BODY) -> tuple[int, bytes]:
    connection = HTTPConnection("127.0.0.1", port, timeout=30)
    connection.request("POST", "/embed", body)
    response = connection.getresponse()
    answer = response.status, response.read()
    connection.close()
    return answer


def raw(port: int, *parts: bytes, pause: float = 0.0) -> bytes:
    """Send parts and return all that comes until the server closes, or the answer is whole."""
    with socket.create_connection(("127.0.0.1", port), timeout=30) as connection:
        for part in parts:
            connection.sendall(part)
            time.sleep(pause)
        received = b""
        while chunk := connection.recv(65536):
            received += chunk
        return received


def test_an_answer_over_a_socket(port: int) -> None:
    status, answer = ask(port)
    assert status == 200 and len(json.loads(answer)[0]) == 32


def test_silent_and_slow_clients_are_left(port: int) -> None:
    assert raw(port) == b""  # says nothing
    assert raw(port, b"POST /em").startswith(b"HTTP/1.1 408")  # stops in its head
    assert raw(port, REQUEST, b'{"inp').startswith(b"HTTP/1.1 408")  # stops in its body
    assert ask(port)[0] == 200


def test_heads_that_are_too_long_or_none(port: int) -> None:
    assert raw(port, b"GET / HTTP/1.1\r\n" + b"X: " + b"y" * 70_000).startswith(b"HTTP/1.1 431")
    assert raw(port, b"nonsense\r\n\r\n").startswith(b"HTTP/1.1 400")
    assert ask(port)[0] == 200


def test_large_bodies_are_refused_and_the_client_reads_why(port: int) -> None:
    status, answer = ask(port, b"x" * 5_000_000)
    assert status == 413 and b"10,000 bytes" in answer
    assert raw(port, REQUEST.replace(b"18", b"99999999")[:-2] + b"Expect: 100-continue\r\n\r\n").startswith(
        b"HTTP/1.1 413"
    )


def test_a_client_that_is_killed_half_way_harms_nobody(port: int) -> None:
    for _ in range(20):
        connection = socket.create_connection(("127.0.0.1", port), timeout=30)
        connection.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, b"\1\0\0\0\0\0\0\0")  # a reset, as a crash sends it
        connection.sendall(REQUEST + BODY[:5])
        connection.close()
    assert ask(port)[0] == 200


def test_idle_connections_do_not_keep_others_out(embedder: Path) -> None:
    with on_socket(service_of(embedder)) as port:
        idle = [socket.create_connection(("127.0.0.1", port), timeout=30) for _ in range(250)]
        assert ask(port)[0] == 200
        for connection in idle:
            connection.close()


def test_all_that_was_accepted_is_answered_when_the_server_stops(embedder: Path) -> None:
    statuses: list[int] = []
    refused = threading.Event()

    def client(port: int) -> None:
        connection = HTTPConnection("127.0.0.1", port, timeout=30)
        while True:
            try:
                connection.request("POST", "/embed", BODY)
            except ConnectionRefusedError:
                refused.set()
                return
            response = connection.getresponse()
            response.read()
            statuses.append(response.status)

    with on_socket(service_of(embedder)) as port:
        threads = [threading.Thread(target=client, args=(port,), daemon=True) for _ in range(4)]
        for thread in threads:
            thread.start()
        wait_until(lambda: len(statuses) > 40)
    for thread in threads:
        thread.join(30)
        assert not thread.is_alive()
    assert refused.is_set() and set(statuses) == {200}


@pytest.mark.parametrize(("drain", "seconds"), [(20.0, 20), (2.6, 3), (0.001, 1)])
def test_requests_may_take_the_time_of_drain_to_end(drain: float, seconds: int) -> None:
    """Whole seconds are what uvicorn takes, which at 0 would end a request at once."""
    server = connections.DrainingServer(SimpleNamespace(settings=settings_of(drain=drain), app=None))  # type: ignore[arg-type]
    assert server.config.timeout_graceful_shutdown == seconds
