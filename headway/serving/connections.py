"""Bound what a connection may do, and end connections so that no client's request is lost: both on top of uvicorn."""

import asyncio
import contextlib
import os
import socket
from collections.abc import Iterator
from typing import Any

import uvicorn
from uvicorn.protocols.http.httptools_impl import HttpToolsProtocol

from .application import Service

MOST_CONNECTIONS = 2048
"""Connections of one process; further ones are told 503."""

MOST_HEAD = 32 << 10
"""Bytes of a request's line and headers."""

HEAD_TIMEOUT = 10.0
"""Seconds that a connection may take to send the head of a request."""

KEEP_ALIVE = 75.0
"""Seconds that a connection may stay open between requests: longer than the usual pools of clients keep theirs."""

_LAST_REQUESTS = 2.0
"""Seconds for which a server that stops still answers on connections that are open, each for the last time."""


_NOTE_EACH = 10
"""Ticks, of a tenth of a second each, after which the figures of the queues are set anew."""


class BoundedProtocol(HttpToolsProtocol):
    """A connection whose head has to come soon, and be short."""

    def connection_made(self, transport: asyncio.Transport) -> None:  # type: ignore[override]
        super().connection_made(transport)
        self._head = 0
        self._late = self.loop.call_later(HEAD_TIMEOUT, self._give_up)

    def connection_lost(self, exc: Exception | None) -> None:
        self._late.cancel()
        super().connection_lost(exc)

    def data_received(self, data: bytes) -> None:
        if self._idle() and self._head == 0:
            self._late.cancel()
            self._late = self.loop.call_later(HEAD_TIMEOUT, self._give_up)
        self._head += len(data)
        super().data_received(data)
        if not self._idle():
            self._head = 0
            self._late.cancel()
        elif self._head > MOST_HEAD:
            self._end(b"431 Request Header Fields Too Large")

    def _idle(self) -> bool:
        return self.cycle is None or self.cycle.response_complete

    def _give_up(self) -> None:
        if self._idle() and not self.transport.is_closing():
            self._end(b"408 Request Timeout") if self._head else self.transport.close()

    def _end(self, status: bytes) -> None:
        self.transport.write(b"HTTP/1.1 " + status + b"\r\ncontent-length: 0\r\nconnection: close\r\n\r\n")
        self.transport.close()


class DrainingServer(uvicorn.Server):
    """A server that tells when it is ready, and stops only after all it has accepted is answered.

    `ready` is a file descriptor that gets one byte. The server stops where its parent process is gone.
    """

    def __init__(self, service: Service, ready: int | None = None):
        settings = service.settings
        super().__init__(
            uvicorn.Config(
                service.app,
                http=BoundedProtocol,
                ws="none",
                lifespan="on",
                log_config=None,
                access_log=False,
                server_header=False,
                timeout_keep_alive=int(KEEP_ALIVE),
                limit_concurrency=MOST_CONNECTIONS,
                timeout_graceful_shutdown=max(1, round(settings.drain)),
                ssl_certfile=settings.certificate,
                ssl_keyfile=settings.key,
            )
        )
        self._service = service
        self._ready = ready
        self._parent = os.getppid()

    async def startup(self, sockets: list[socket.socket] | None = None) -> None:
        await super().startup(sockets)
        if self._ready is not None:
            with contextlib.suppress(OSError):
                os.write(self._ready, b"1")
                os.close(self._ready)

    async def on_tick(self, counter: int) -> bool:
        if counter % _NOTE_EACH == 0:
            self._service.note_queues()
        return await super().on_tick(counter) or (self._ready is not None and os.getppid() != self._parent)

    async def shutdown(self, sockets: list[socket.socket] | None = None) -> None:
        """Stop taking connections, answer what comes on those that are open for a moment, and end."""
        self._service.state.draining = True
        await self._stop_listening(sockets or [])
        for _ in range(round(_LAST_REQUESTS / 0.05)):
            if not self.server_state.connections:
                break
            await asyncio.sleep(0.05)
        await super().shutdown(sockets)

    async def _stop_listening(self, sockets: list[socket.socket]) -> None:
        """Close the sockets, after taking the connections that the system has accepted meanwhile: it would reset them."""
        loop = asyncio.get_running_loop()
        last = []
        for listening in sockets:
            loop.remove_reader(listening)
            with contextlib.suppress(OSError):
                while True:
                    last.append(listening.accept()[0])
        for server in self.servers:
            server.close()
        for connection in last:
            connection.setblocking(False)
            with contextlib.suppress(OSError):
                await loop.connect_accepted_socket(self._protocol, connection, ssl=self.config.ssl)

    def _protocol(self) -> BoundedProtocol:
        return BoundedProtocol(self.config, self.server_state, self.lifespan.state)

    @contextlib.contextmanager
    def capture_signals(self) -> Iterator[Any]:
        """Leave signals to the process: the supervisor's worker sets `should_exit`."""
        yield
