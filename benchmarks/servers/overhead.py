"""Compare a server with the bare runner behind a plain socket: one client, both asked the same text in turn."""

import socket
import time
from collections.abc import Callable, Iterator, Sequence
from contextlib import ExitStack, contextmanager

import numpy as np

from headway.exporter.bench.measure import ratio_interval

_WARM = 50


@contextmanager
def connection(port: int) -> Iterator[socket.socket]:
    """Yield a connection that sends at once."""
    with socket.create_connection(("127.0.0.1", port)) as made:
        made.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
        yield made


def _read(server: socket.socket, count: int) -> None:
    while count > 0:
        part = server.recv(1 << 16)
        if not part:
            raise ConnectionError("a server closed its connection")
        count -= len(part)


def _http(server: socket.socket, request: bytes) -> None:
    server.sendall(request)
    head = b""
    while b"\r\n\r\n" not in head:
        part = server.recv(1 << 16)
        if not part:
            raise ConnectionError("a server closed its connection")
        head += part
    head, _, rest = head.partition(b"\r\n\r\n")
    if head.split(b" ")[1] != b"200":
        raise RuntimeError(f"a server answered {head.splitlines()[0].decode()}")
    length = next(
        int(line.split(b":")[1]) for line in head.lower().split(b"\r\n") if line.startswith(b"content-length")
    )
    _read(server, length - len(rest))


def overhead(
    ports: tuple[int, int], texts: Sequence[str], request: Callable[[str], bytes], answer: int, seconds: float
) -> dict[str, object]:
    """Return what a request takes beside the bare runner: the ratio of medians with its interval, and milliseconds of both.

    `ports` are those of the server and of `bare_runner`, whose answer has `answer` bytes.
    """
    lines = [text for text in texts if "\n" not in text]
    rng = np.random.default_rng(0)
    rounds = []
    with ExitStack() as stack:
        server, bare = (stack.enter_context(connection(port)) for port in ports)
        end = time.perf_counter() + seconds
        while time.perf_counter() < end or len(rounds) <= _WARM:
            text, took = lines[rng.integers(len(lines))], [0.0, 0.0]
            for which in (0, 1) if len(rounds) % 2 else (1, 0):
                start = time.perf_counter()
                if which == 0:
                    _http(server, request(text))
                else:
                    bare.sendall(f"{text}\n".encode())
                    _read(bare, answer)
                took[which] = time.perf_counter() - start
            rounds.append(took)
    times = np.array(rounds[_WARM:])
    return {
        "ratio": [float(x) for x in ratio_interval(times[:, 1], times[:, 0])],
        "ms": [round(1e3 * float(x), 3) for x in np.median(times, axis=0)],
        "added_ms": round(1e3 * float(np.median(times[:, 0] - times[:, 1])), 3),
    }
