"""Serve a directory while a test runs."""

import threading
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from headway.exporter.targets.web.serve import server


@contextmanager
def serving(directory: Path) -> Iterator[str]:
    with server(directory) as running:
        thread = threading.Thread(target=running.serve_forever, daemon=True)
        thread.start()
        yield f"http://127.0.0.1:{running.server_port}/"
        running.shutdown()
        thread.join()
