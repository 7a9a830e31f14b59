"""Serve the page of a bundle made for the web, with the headers by which a browser lets WebAssembly use threads."""

import socket
from functools import partial
from http import HTTPStatus
from http.server import SimpleHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from threading import BoundedSemaphore
from typing import Any

from ....errors import SourceError, UsageError
from ....inside import Folder

ISOLATION = {"Cross-Origin-Opener-Policy": "same-origin", "Cross-Origin-Embedder-Policy": "require-corp"}
"""Only isolated pages may share memory among threads. Source: HTML Living Standard, cross-origin isolation."""

TIMEOUT = 30.0
"""Seconds that a connection may be silent."""

MOST_CONNECTIONS = 32
"""Connections at once; a browser opens some six. Others wait."""

_HOSTS = frozenset({"127.0.0.1", "localhost"})


class _Handler(SimpleHTTPRequestHandler):
    extensions_map = {**SimpleHTTPRequestHandler.extensions_map, ".mjs": "text/javascript", ".wasm": "application/wasm"}  # noqa: RUF012
    timeout = TIMEOUT

    def send_head(self) -> Any:
        """Answer a request. Other hosts' names are refused, so that no page elsewhere reads this one by a name that leads here."""
        host = self.headers.get("Host", "localhost").rpartition("]")[2].split(":")[0]
        if host.lower() not in _HOSTS:
            self.send_error(HTTPStatus.MISDIRECTED_REQUEST, "only localhost is served")
            return None
        path = Path(self.translate_path(self.path))
        if path.is_dir():
            path /= "index.html"
        try:
            Folder(Path(self.directory)).file(path.relative_to(self.directory).as_posix())
        except (SourceError, ValueError):  # a link that leads out, a folder without a page, or nothing
            self.send_error(HTTPStatus.NOT_FOUND)
            return None
        return super().send_head()

    def end_headers(self) -> None:
        for name, value in ISOLATION.items():
            self.send_header(name, value)
        super().end_headers()

    def log_message(self, *_: object) -> None:
        """Print nothing: the address is printed once, at the start."""


class _Server(ThreadingHTTPServer):
    """Serves a bounded number of connections at once; each thread ends when its connection is silent for too long."""

    daemon_threads = True
    request_queue_size = MOST_CONNECTIONS

    def __init__(self, *arguments: Any):
        self._free = BoundedSemaphore(MOST_CONNECTIONS)
        super().__init__(*arguments)

    def process_request(self, request: Any, client_address: Any) -> None:
        if not self._free.acquire(timeout=TIMEOUT):
            self.shutdown_request(request)
            return
        try:
            super().process_request(request, client_address)
        except BaseException:
            self._free.release()
            raise

    def process_request_thread(self, request: Any, client_address: Any) -> None:
        try:
            super().process_request_thread(request, client_address)
        finally:
            self._free.release()

    def handle_error(self, request: socket.socket | tuple[bytes, socket.socket], client_address: Any) -> None:
        """Print nothing where a browser closes a connection."""


def server(directory: Path, port: int = 0) -> ThreadingHTTPServer:
    """Return a server of `directory` for this machine alone, not yet running; port 0 takes a free one.

    Files are served to localhost only, and no link that leads out of the directory is followed. Raise UsageError where there is no
    page, or the port cannot be used.
    """
    if not (directory / "index.html").is_file():
        raise UsageError(f"{directory}: no index.html; export with --target web")
    try:
        return _Server(("127.0.0.1", port), partial(_Handler, directory=str(directory.resolve())))
    except OSError as error:
        raise UsageError(f"port {port} cannot be listened on ({error.strerror}); choose another with --port") from error
