"""Serve the page of a bundle made for the web, with the headers by which a browser lets WebAssembly use threads."""

from functools import partial
from http.server import SimpleHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path

from ....errors import UsageError

ISOLATION = {"Cross-Origin-Opener-Policy": "same-origin", "Cross-Origin-Embedder-Policy": "require-corp"}
"""Only isolated pages may share memory among threads. Source: HTML Living Standard, cross-origin isolation."""


class _Handler(SimpleHTTPRequestHandler):
    extensions_map = {**SimpleHTTPRequestHandler.extensions_map, ".mjs": "text/javascript", ".wasm": "application/wasm"}  # noqa: RUF012

    def end_headers(self) -> None:
        for name, value in ISOLATION.items():
            self.send_header(name, value)
        super().end_headers()

    def log_message(self, *_: object) -> None:
        """Print nothing: the address is printed once, at the start."""


def server(directory: Path, port: int = 0) -> ThreadingHTTPServer:
    """Return a server of `directory` for this machine alone, not yet running; port 0 takes a free one.

    Raise UsageError where there is no page, or the port cannot be used.
    """
    if not (directory / "index.html").is_file():
        raise UsageError(f"{directory}: no index.html; export with --target web")
    try:
        return ThreadingHTTPServer(("127.0.0.1", port), partial(_Handler, directory=str(directory)))
    except OSError as error:
        raise UsageError(f"port {port} cannot be listened on ({error.strerror}); choose another with --port") from error
