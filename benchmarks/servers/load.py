"""Ask a server as independent clients do: arrivals of a Poisson process, whether or not earlier requests are answered.

Latencies count from the moment a request was due, so that a client that is late does not hide a server that is. Asyncio and plain
sockets: the load shares the machine with the server.
"""

import asyncio
import json
import random
import time
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

MOST_CONNECTIONS = 256
_LONGEST = 60.0
_PAUSE = 0.05
"""Seconds that a client waits after a refusal, when the server is saturated on purpose."""


@dataclass
class Answers:
    """What came back: seconds by request for those answered, and counts of the others."""

    seconds: list[float] = field(default_factory=list)
    refused: int = 0
    lost: int = 0
    """Requests without an answer: connections that broke, or answers that are neither 200 nor 429."""
    sent: int = 0
    lasted: float = 0.0


class _Connections:
    """Connections that are kept open, as a pool of clients has them."""

    def __init__(self, port: int):
        self._port = port
        self._free: list[tuple[asyncio.StreamReader, asyncio.StreamWriter]] = []
        self._room = asyncio.Semaphore(MOST_CONNECTIONS)

    async def ask(self, request: bytes) -> int:
        """Return the status of the answer to a request; 0 where there is none."""
        async with self._room:
            try:
                reader, writer = (
                    self._free.pop() if self._free else await asyncio.open_connection("127.0.0.1", self._port)
                )
                writer.write(request)
                head = await asyncio.wait_for(reader.readuntil(b"\r\n\r\n"), _LONGEST)
                lines = head.decode("latin-1").lower().split("\r\n")
                length = next(int(line.partition(":")[2]) for line in lines if line.startswith("content-length:"))
                await reader.readexactly(length)
            except (OSError, EOFError, ValueError, StopIteration, TimeoutError):
                return 0
            if any(line.replace(" ", "") == "connection:close" for line in lines):
                writer.close()
            else:
                self._free.append((reader, writer))
            return int(lines[0].split()[1])

    def close(self) -> None:
        for _, writer in self._free:
            writer.close()


def tei_request(text: str) -> bytes:
    """Return the request for a text's vector as text-embeddings-inference has it."""
    return _post("/embed", {"inputs": [text]})


def kserve_request(text: str) -> bytes:
    """Return the request for a text's vector in KServe's protocol, of the model `embed`."""
    return _post(
        "/v2/models/embed/infer", {"inputs": [{"name": "text", "shape": [1, 1], "datatype": "BYTES", "data": [text]}]}
    )


def _post(path: str, content: Mapping[str, Any]) -> bytes:
    body = json.dumps(content).encode()
    head = f"POST {path} HTTP/1.1\r\nHost: x\r\nContent-Type: application/json\r\nContent-Length: {len(body)}\r\n\r\n"
    return head.encode() + body


def poisson(port: int, requests: Sequence[bytes], rate: float, seconds: float, seed: int) -> Answers:
    """Ask `rate` times a second on average for so many seconds, one request each; wait for all answers."""
    return asyncio.run(_poisson(port, requests, rate, seconds, random.Random(seed)))


async def _poisson(port: int, requests: Sequence[bytes], rate: float, seconds: float, rng: random.Random) -> Answers:
    answers, connections = Answers(), _Connections(port)
    start = time.perf_counter()
    due, tasks = 0.0, set()
    while (due := due + rng.expovariate(rate)) < seconds:
        await asyncio.sleep(max(0.0, start + due - time.perf_counter()))
        task = asyncio.ensure_future(_one(connections, rng.choice(requests), start + due, answers))
        tasks.add(task)
        task.add_done_callback(tasks.discard)
        answers.sent += 1
    if tasks:
        await asyncio.wait(set(tasks))
    answers.lasted = time.perf_counter() - start
    connections.close()
    return answers


async def _one(connections: _Connections, request: bytes, due: float, answers: Answers) -> None:
    status = await connections.ask(request)
    if status == 200:
        answers.seconds.append(time.perf_counter() - due)
    elif status == 429:
        answers.refused += 1
    else:
        answers.lost += 1


def saturate(port: int, requests: Sequence[bytes], clients: int, seconds: float, seed: int = 0) -> Answers:
    """Ask from so many clients, each again as soon as it has its answer, or a moment after a refusal."""
    return asyncio.run(_saturate(port, requests, clients, seconds, random.Random(seed)))


async def _saturate(port: int, requests: Sequence[bytes], clients: int, seconds: float, rng: random.Random) -> Answers:
    answers, connections = Answers(), _Connections(port)
    start = time.perf_counter()

    async def client() -> None:
        while (now := time.perf_counter()) < start + seconds:
            answers.sent += 1
            refused = answers.refused
            await _one(connections, rng.choice(requests), now, answers)
            if answers.refused > refused:
                await asyncio.sleep(_PAUSE)

    await asyncio.gather(*(client() for _ in range(clients)))
    answers.lasted = time.perf_counter() - start
    connections.close()
    return answers
